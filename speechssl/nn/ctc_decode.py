"""Greedy decoding of CTC scores: the best symbol of every frame, repeats merged, blanks removed."""

from collections.abc import Iterator

import torch
from torch import Tensor


def greedy(outputs: Tensor, lengths: Tensor, blank: int = 0) -> Iterator[list[int]]:
    """Yield per utterance the symbols of its most likely path.

    Args:
        outputs: (B, T, V) scores.
        lengths: (B,) valid frames.
        blank: index of the blank symbol.
    """
    best = outputs.argmax(dim=-1).cpu()
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = new & (best != blank)
    for row, keep, frames in zip(best, kept, lengths.tolist(), strict=True):
        yield row[:frames][keep[:frames]].tolist()
