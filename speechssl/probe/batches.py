"""Batches of cached features; batch number k is a pure function of the split, the settings and k."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.probe.frames import FrameFeatures

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


@dataclass
class Split:
    """Cached features of a labelled split.

    Attributes:
        features: (N, L + 1, D) pooled, or frames.
        labels: name -> one entry per utterance.
        ids: of the utterances.
        seconds: (N,) of audio.
    """

    features: Tensor | FrameFeatures
    labels: dict[str, list]
    ids: list[str]
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) frames."""
        return np.ones(len(self), np.int64) if isinstance(self.features, Tensor) else self.features.lengths

    def batch(self, indices: Sequence[int] | np.ndarray) -> FeatureBatch:
        """Return the utterances of these indices."""
        rows = np.asarray(indices, np.int64)
        if isinstance(self.features, Tensor):
            features = self.features[torch.from_numpy(rows)][:, None]
            lengths = torch.ones(len(rows), dtype=torch.long)
        else:
            features, lengths = self.features.batch(rows)
        picks = rows.tolist()
        labels = {name: [values[i] for i in picks] for name, values in self.labels.items()}
        return FeatureBatch(features, lengths, labels, [self.ids[i] for i in picks], float(self.seconds[rows].sum()))

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
        features = FrameFeatures(first.features.arrays + second.features.arrays)
    labels = {name: values + second.labels[name] for name, values in first.labels.items()}
    return Split(features, labels, first.ids + second.ids, np.concatenate([first.seconds, second.seconds]))


class HeadBatches:
    """Endless train batches of a split.

    Utterances of one frame (pooled features) are shuffled anew in every epoch, or drawn with replacement
    where weights are given. Longer ones are grouped by length once, and the order of the groups is shuffled
    in every epoch, as in SUPERB's recognition tasks; a last group of a single utterance is left out.

    Args:
        split: the features.
        batch_size: utterances per batch.
        seed: of all orders and draws.
        weights: chances of the utterances, or None.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, weights: Sequence[float] | None = None):
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self.upto = None if weights is None else np.cumsum(weights) / np.sum(weights)  # distribution function
        self._order = lru_cache(maxsize=4)(self._shuffled)
        self.groups = None if isinstance(split.features, Tensor) else self._by_length()

    def _by_length(self) -> list[np.ndarray]:
        order = np.argsort(-self.split.lengths, kind="stable")
        groups = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        return groups[:-1] if len(groups) > 1 and len(groups[-1]) == 1 else groups

    def indices(self, number: int) -> np.ndarray:
        """Return the utterances of batch `number`."""
        if self.upto is not None:
            drawn = np.random.default_rng([self.seed, 1, number]).random(self.batch_size)
            return np.minimum(np.searchsorted(self.upto, drawn, side="right"), len(self.split) - 1)
        if self.groups is not None:
            epoch, place = divmod(number, len(self.groups))
            return self.groups[self._order(epoch, len(self.groups))[place]]
        first, total = number * self.batch_size, len(self.split)
        epochs = range(first // total, (first + self.batch_size - 1) // total + 1)
        joined = np.concatenate([self._order(epoch, total) for epoch in epochs])
        return joined[first - epochs[0] * total :][: self.batch_size]

    def _shuffled(self, epoch: int, size: int) -> np.ndarray:
        return np.random.default_rng([self.seed, 0, epoch]).permutation(size)

    def iterate(self, start: int, step: int = 1) -> Iterator[FeatureBatch]:
        """Yield batches number `start`, `start + step`, ... without end."""
        while True:
            yield self.split.batch(self.indices(start))
            start += step

    def once(self) -> Iterator[FeatureBatch]:
        """Yield every utterance once."""
        return self.split.scoring_batches()
