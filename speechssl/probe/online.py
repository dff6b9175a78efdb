"""Hidden states computed anew for every batch, for corpora whose frames fit on no disk.

The same features as from the cache up to rounding (an utterance's features do not depend on its batch mates), except
where pieces are cropped at random: here the waveform is cropped, as in SUPERB's own runs, and the encoder sees no more
than the piece. It costs a pass of the encoder per batch instead of one per utterance.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechssl.data.cuts import Corpus, CutTable
from speechssl.data.loader import utterance_batches
from speechssl.errors import AudioError, UserError
from speechssl.interfaces import Upstream
from speechssl.nn.padding import lengths_to_mask
from speechssl.probe.frames import Windows
from speechssl.probe.keys import utterance_keys


@dataclass
class OnlineFrames:
    """Frame-level hidden states of the utterances of a table, as `speechssl.probe.frames.FrameFeatures` gives them.

    Attributes:
        upstream: a frozen model in `eval()`, on the device it shall run on.
        table: the utterances.
    """

    upstream: Upstream
    table: CutTable

    @property
    def lengths(self) -> np.ndarray:
        """(N,) frames, close to what the upstream makes of them; every batch comes with the true ones."""
        return np.maximum(self.table.num_samples // self.upstream.downsample_rate, 1)

    @torch.no_grad()
    def batch(self, indices: Iterable[int], windows: Windows | None = None) -> tuple[Tensor, Tensor]:
        """Return features (B, T, L + 1, D) and their lengths (B,), on the device of the upstream.

        Args:
            indices: B utterances.
            windows: (B,) first frames and (B,) numbers of frames; None = whole utterances.
        """
        rows = np.array(list(indices), np.int64)
        starts, counts = windows or (np.zeros(len(rows), np.int64), self.lengths[rows])
        device = next((p.device for p in self.upstream.state_dict().values()), torch.device("cpu"))
        waveforms = [self._read(*window).to(device) for window in zip(rows, starts, counts, strict=True)]
        states, lengths = self.upstream(waveforms)
        padding = ~lengths_to_mask(lengths, states[0].shape[1])
        return torch.stack(states, dim=2).masked_fill(padding[..., None, None], 0.0), lengths

    def _read(self, row: int, start: int, count: int) -> Tensor:
        total, rate = int(self.table.num_samples[row]), self.upstream.downsample_rate
        begin, end = int(start) * rate, (int(start) + int(count)) * rate
        if total - end < rate:  # the last frame may see some samples more than it is long
            end = total
        try:
            return torch.from_numpy(self.table.read(int(row), begin, end - begin))
        except AudioError as error:
            raise UserError(f"{self.table.ids[row]} could be read before and cannot any more: {error}") from error

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (L + 1, D) over all frames; sums are kept in float64."""
        count, total, square = 0, 0.0, 0.0
        for row in range(len(self.table)):
            states = self.batch([row])[0][0].double().cpu()
            count, total, square = count + len(states), total + states.sum(dim=0), square + states.square().sum(dim=0)
        mean = total / count
        return mean.float(), (square / count - mean**2).clamp(min=0).sqrt().float()

    def joined(self, other: "OnlineFrames") -> "OnlineFrames":
        """Return the utterances of both."""
        return OnlineFrames(self.upstream, CutTable.joined([self.table, other.table]))


class OnlineFeatures:
    """What stands in for a `speechssl.probe.cache.FeatureCache`: nothing is kept but which utterances are unreadable.

    Args:
        upstream: a frozen model in `eval()`, on the device it shall run on.
        max_seconds: audio read at a time when looking for what is unreadable.
        num_workers: processes that do so.
    """

    def __init__(self, upstream: Upstream, *, max_seconds: float, num_workers: int):
        self.upstream, self.max_seconds, self.num_workers = upstream, max_seconds, num_workers
        self.unreadable: dict[str, str] = {}
        self._looked_at: set[str] = set()

    def fill(self, corpus: Corpus, table: CutTable, *, frames: bool, pooling: str = "mean") -> None:
        """Find out which utterances cannot be read, before any training meets them."""
        keys = dict(zip(table.ids, utterance_keys(corpus, table), strict=True))
        new = table.select([i for i, name in enumerate(table.ids) if keys[name] not in self._looked_at])
        if not len(new):
            return
        for batch in utterance_batches(new, max_seconds=self.max_seconds, num_workers=self.num_workers):
            self.unreadable |= {keys[name]: reason for name, reason in batch.unreadable}
        self._looked_at |= {keys[name] for name in new.ids}

    def readable(self, corpus: Corpus, table: CutTable) -> list[int]:
        """Return the indices of the utterances that can be read (after `fill`)."""
        return [i for i, key in enumerate(utterance_keys(corpus, table)) if key not in self.unreadable]

    def features(self, corpus: Corpus, table: CutTable, *, frames: bool, pooling: str = "mean") -> OnlineFrames:
        """Return the frames of a table, whatever the pooling: heads that need means take them of frames as well."""
        return OnlineFrames(self.upstream, table)
