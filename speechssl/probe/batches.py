"""Batches of cached features; batch number k is a pure function of the split, the settings and k."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.probe.frames import FrameFeatures, Windows
from speechssl.probe.online import OnlineFrames

POOLED_BATCH = 8192  # utterances scored at a time
FRAME_BATCH = 20_000  # padded frames scored at a time


@dataclass
class FeatureBatch:
    """Cached hidden states with labels.

    `features` is (B, T, L + 1, D) with (B,) `lengths`; pooled features are utterances of one frame.
    """

    features: Tensor
    lengths: Tensor
    labels: dict[str, Any]
    ids: list[str]
    seconds: float  # of audio
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    empty: bool = False

    def to(self, device: torch.device | str) -> "FeatureBatch":
        return replace(self, features=self.features.to(device), lengths=self.lengths.to(device))


Targets = Callable[[dict[str, list], list[int], list[int]], dict[str, list]]


@dataclass
class Split:
    """Cached features of a labelled split.

    Attributes:
        features: (N, L + 1, D) pooled, or frames.
        labels: name -> one entry per utterance.
        ids: of the utterances.
        seconds: (N,) of audio.
        targets: makes labels that have one entry per frame, of labels, first frames and numbers of frames of a batch.
    """

    features: Tensor | FrameFeatures | OnlineFrames
    labels: dict[str, list]
    ids: list[str]
    seconds: np.ndarray
    targets: Targets | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) frames."""
        return np.ones(len(self), np.int64) if isinstance(self.features, Tensor) else self.features.lengths

    def batch(self, indices: Sequence[int] | np.ndarray, windows: Windows | None = None) -> FeatureBatch:
        """Return the utterances of these indices: whole, or windows of them where there are frames.

        Args:
            indices: B utterances.
            windows: (B,) first frames and (B,) numbers of frames.
        """
        rows = np.asarray(indices, np.int64)
        starts, counts = windows or (np.zeros(len(rows), np.int64), self.lengths[rows])
        if isinstance(self.features, Tensor):
            features = self.features[torch.from_numpy(rows)][:, None]
            lengths = torch.ones(len(rows), dtype=torch.long)
        else:
            features, lengths = self.features.batch(rows.tolist(), windows)
        picks = rows.tolist()
        labels = {name: [values[i] for i in picks] for name, values in self.labels.items()}
        if self.targets is not None:
            labels = self.targets(labels, starts.tolist(), lengths.tolist())
        seconds = float((self.seconds[rows] * counts / self.lengths[rows]).sum())
        return FeatureBatch(features, lengths, labels, [self.ids[i] for i in picks], seconds)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (L + 1, D) over utterances, or over frames."""
        if isinstance(self.features, Tensor):
            variance, mean = torch.var_mean(self.features.double(), dim=0, correction=0)
            return mean.float(), variance.sqrt().float()
        return self.features.moments()

    def scoring_batches(self) -> Iterator[FeatureBatch]:
        """Yield every utterance once, sorted by length."""
        lengths = self.lengths
        budget = POOLED_BATCH if isinstance(self.features, Tensor) else FRAME_BATCH
        chosen: list[int] = []
        for i in np.argsort(lengths, kind="stable").tolist():
            if chosen and (len(chosen) + 1) * int(lengths[i]) > budget:
                yield self.batch(chosen)
                chosen = []
            chosen.append(i)
        if chosen:
            yield self.batch(chosen)


def join(first: Split, second: Split) -> Split:
    """Return the utterances of both splits, for a training on all of them."""
    if isinstance(first.features, Tensor):
        features = torch.cat([first.features, second.features])
    else:
        features = first.features.joined(second.features)
    labels = {name: values + second.labels[name] for name, values in first.labels.items()}
    seconds = np.concatenate([first.seconds, second.seconds])
    return Split(features, labels, first.ids + second.ids, seconds, first.targets)


@dataclass(frozen=True)
class Pieces:
    """How train batches take utterances apart; only where there are frames.

    Attributes:
        crop: longest piece in a batch, in frames; where it begins is drawn for every batch. 0 = whole utterances.
        chunk: longer utterances become several of at most this many frames. 0 = whole utterances.
        fixed: the same number of utterances in every batch. Else a batch has as many as fit into the padded frames
            that a batch of utterances of average length would have.
        shuffled: batches of utterances of any length, for heads that learn from means over time.
    """

    crop: int = 0
    chunk: int = 0
    fixed: bool = True
    shuffled: bool = False


class HeadBatches:
    """Endless train batches of a split.

    Utterances of one frame (pooled features) are shuffled anew in every epoch, or drawn with replacement
    where weights are given; so are longer ones of which pieces are cropped at random. Whole longer ones are grouped by
    length once, and the order of the groups is shuffled in every epoch, as in SUPERB's recognition tasks; a last group
    of a single utterance is left out.

    Args:
        split: the features.
        batch_size: utterances per batch.
        seed: of all orders and draws.
        weights: chances of the utterances, or None.
        pieces: of utterances.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int,
        weights: Sequence[float] | None = None,
        pieces: Pieces = Pieces(),
    ):
        self.split, self.batch_size, self.seed, self.pieces = split, batch_size, seed, pieces
        self.rows, self.starts, self.counts = _chunks(split.lengths, pieces.chunk)
        self.upto = None if weights is None else np.cumsum(np.asarray(weights)[self.rows])  # distribution function
        self._order = lru_cache(maxsize=4)(self._shuffled)
        grouped = not isinstance(split.features, Tensor) and not pieces.crop and not pieces.shuffled
        self.groups = self._by_length() if grouped else None

    def _by_length(self) -> list[np.ndarray]:
        order = np.argsort(-self.counts, kind="stable")
        sizes = self._sizes(self.counts[order])
        groups = np.split(order, np.cumsum(sizes)[:-1])
        return groups[:-1] if len(groups) > 1 and len(groups[-1]) == 1 else groups

    def _sizes(self, lengths: np.ndarray) -> list[int]:
        """Return how many utterances of falling lengths each group has."""
        budget, sizes, done = self.batch_size * lengths.mean(), [], 0
        while done < len(lengths):
            fits = self.batch_size if self.pieces.fixed else max(1, int(budget // lengths[done]))
            sizes.append(min(fits, len(lengths) - done))
            done += sizes[-1]
        return sizes

    def batch(self, number: int) -> FeatureBatch:
        """Return batch `number`."""
        chosen = self.indices(number)
        starts, counts = self.starts[chosen], self.counts[chosen]
        if self.pieces.crop:
            taken = np.minimum(counts, self.pieces.crop)
            drawn = np.random.default_rng([self.seed, 2, number]).random(len(chosen))
            starts, counts = starts + (drawn * (counts - taken + 1)).astype(np.int64), taken
        return self.split.batch(self.rows[chosen], (starts, counts))

    def indices(self, number: int) -> np.ndarray:
        """Return the pieces of batch `number`: rows of `rows`, `starts` and `counts`."""
        if self.upto is not None:
            drawn = np.random.default_rng([self.seed, 1, number]).random(self.batch_size) * self.upto[-1]
            return np.minimum(np.searchsorted(self.upto, drawn, side="right"), len(self.rows) - 1)
        if self.groups is not None:
            epoch, place = divmod(number, len(self.groups))
            return self.groups[self._order(epoch, len(self.groups))[place]]
        first, total = number * self.batch_size, len(self.rows)
        epochs = range(first // total, (first + self.batch_size - 1) // total + 1)
        joined = np.concatenate([self._order(epoch, total) for epoch in epochs])
        return joined[first - epochs[0] * total :][: self.batch_size]

    def _shuffled(self, epoch: int, size: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(size)

    def iterate(self, start: int, step: int = 1) -> Iterator[FeatureBatch]:
        """Yield batches number `start`, `start + step`, ... without end."""
        while True:
            yield self.batch(start)
            start += step

    def once(self) -> Iterator[FeatureBatch]:
        """Yield every utterance once."""
        return self.split.scoring_batches()


def _chunks(lengths: np.ndarray, longest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, first frame and frames of the pieces of utterances with these numbers of frames (N,)."""
    if not longest:
        return np.arange(len(lengths)), np.zeros(len(lengths), np.int64), lengths
    pieces = -(-lengths // longest)
    rows = np.repeat(np.arange(len(lengths)), pieces)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return rows, place * longest, np.minimum(lengths[rows] - place * longest, longest)
