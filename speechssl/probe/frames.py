"""Frame-level features that lie in memory-mapped arrays."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Windows = tuple[np.ndarray, np.ndarray]  # first frames, numbers of frames


@dataclass
class FrameFeatures:
    """Frame-level hidden states of some utterances: views of memory-mapped arrays.

    Attributes:
        arrays: one (T, L + 1, D) view per utterance.
        scales: (L + 1, D) per utterance, what its frames are to be multiplied with; None = they are kept as they are.
    """

    arrays: list[np.ndarray]
    scales: list[np.ndarray] | None = None

    @property
    def lengths(self) -> np.ndarray:
        """(N,) frames."""
        return np.array([len(array) for array in self.arrays], np.int64)

    def batch(self, indices: Iterable[int], windows: Windows | None = None) -> tuple[Tensor, Tensor]:
        """Return float32 features (B, T, L + 1, D), zero-padded at the end, and their lengths (B,).

        Args:
            indices: B utterances.
            windows: (B,) first frames and (B,) numbers of frames; None = whole utterances.
        """
        rows = list(indices)
        chosen = [self.arrays[i] for i in rows]
        if windows is not None:
            places = zip(chosen, *(part.tolist() for part in windows), strict=True)
            chosen = [array[start : start + count] for array, start, count in places]
        lengths = [len(array) for array in chosen]
        padded = np.zeros((len(chosen), max(lengths), *chosen[0].shape[1:]), np.float32)
        for row, array in zip(padded, chosen, strict=True):
            row[: len(array)] = array
        if self.scales is not None:
            padded *= np.stack([self.scales[i] for i in rows])[:, None]
        return torch.from_numpy(padded), torch.tensor(lengths)

    def layer(self, number: int) -> Iterator[Tensor]:
        """Yield one hidden state of every utterance, (T, D) float32."""
        for i, array in enumerate(self.arrays):
            frames = array[:, number].astype(np.float32)
            yield torch.from_numpy(frames if self.scales is None else frames * self.scales[i][number])

    def joined(self, other: "FrameFeatures") -> "FrameFeatures":
        """Return the utterances of both."""
        scales = None if self.scales is None else self.scales + (other.scales or [])
        return FrameFeatures(self.arrays + other.arrays, scales)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation (L + 1, D) over all frames; sums are kept in float64."""
        total = square = np.zeros(self.arrays[0].shape[1:])
        for i, array in enumerate(self.arrays):
            wide = array.astype(np.float64)
            if self.scales is not None:
                wide *= self.scales[i]
            total, square = total + wide.sum(axis=0), square + np.square(wide).sum(axis=0)
        mean = total / self.lengths.sum()
        variance = np.maximum(square / self.lengths.sum() - mean**2, 0.0)
        return torch.from_numpy(mean).float(), torch.from_numpy(np.sqrt(variance)).float()
