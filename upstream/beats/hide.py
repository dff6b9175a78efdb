"""Which patches of a clip the encoder sees: a share of them, drawn uniformly, in their order."""

from typing import NamedTuple

import torch
from torch import Tensor

from speechssl.nn.random import uniform


class Split(NamedTuple):
    """Indices into the N tokens of a padded batch; where not valid they are 0."""

    kept: Tensor  # (B, k) int64, ascending
    kept_valid: Tensor  # (B, k) bool: shorter clips keep fewer
    hidden: Tensor  # (B, m) int64, ascending
    hidden_valid: Tensor  # (B, m) bool


def split_tokens(seeds: Tensor, counts: Tensor, size: int, mask_ratio: float, stream: int) -> Split:
    """Draw, from the clips' seeds alone, round((1 - mask_ratio) * n) of the n tokens of each to be kept, at least one.

    Args:
        seeds: (B,) of the utterances.
        counts: (B,) tokens n of each clip.
        size: N, tokens of the padded batch.
        mask_ratio: share of tokens that is hidden.
        stream: of random numbers.
    """
    share = 1.0 - mask_ratio
    outside = torch.arange(size, device=seeds.device) >= counts[:, None]
    order = uniform(seeds, stream, size).masked_fill(outside, 2.0).argsort(dim=1, stable=True)
    wanted = (share * counts).round().long().clamp(min=1)
    kept = torch.zeros_like(outside).scatter(1, order, torch.arange(size, device=seeds.device) < wanted[:, None])
    most_kept = max(1, round(share * size))
    index, valid = _front(kept & ~outside, most_kept)
    hidden, hidden_valid = _front(~kept & ~outside, size - most_kept)
    return Split(index, valid, hidden, hidden_valid)


def _front(chosen: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return (B, most) the indices of what is chosen (B, N), in order, and which of them are real."""
    index = chosen.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    valid = chosen.gather(1, index)
    return index.masked_fill(~valid, 0), valid
