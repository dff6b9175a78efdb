"""Mixup of waveforms, as SSAST and AST fine-tune with it (Gong, Chung and Glass, 2021, https://arxiv.org/abs/2104.01778)."""

import torch
from torch import Tensor

from speechssl.nn.random import uniform


def beta(seeds: Tensor, stream: int, shape: int) -> Tensor:
    """Return (B,) draws of Beta(shape, shape) for a whole number: the median of 2 * shape - 1 uniform numbers."""
    return uniform(seeds, stream, 2 * shape - 1).median(dim=1).values


def mix_waveforms(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return `share` of a waveform (S,) and the rest of another, which is cut or zero-padded to its length.

    The mean of both is removed before, that of the mixture after.
    """
    partner = torch.zeros_like(first)
    count = min(len(first), len(second))
    partner[:count] = (second - second.mean())[:count]
    mixed = share * (first - first.mean()) + (1.0 - share) * partner
    return mixed - mixed.mean()
