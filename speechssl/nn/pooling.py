"""Pooling over time that padding cannot change.

Deviations are population standard deviations (a single frame has 0). They are taken of differences to the first
frame: where a channel does not vary they are exactly 0, not what rounding a mean leaves, however large its value.
"""

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.nn.padding import lengths_to_mask

POOLINGS = ("mean", "mean_std")
SMALL = 1e-5  # deviations below it divide as this


def check_pooling(pooling: str) -> str:
    """Return the name of a pooling; raises UserError for an unknown one."""
    if pooling not in POOLINGS:
        raise UserError(f"pooling expects {' or '.join(POOLINGS)}, found {pooling!r}")
    return pooling


def masked_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Return means (B, D) of features (B, T, D) over their (B,) valid frames; 0 where there are none."""
    mask = lengths_to_mask(lengths, features.shape[1])
    total = features.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / lengths.clamp(min=1)[:, None]


def masked_deviation(features: Tensor, lengths: Tensor) -> Tensor:
    """Return standard deviations (B, D) of features (B, T, D) over their (B,) valid frames; 0 where there are none.

    The gradient is 0 where the deviation is.
    """
    mask = lengths_to_mask(lengths, features.shape[1])[..., None]
    shifted = (features.float() - features[:, :1].float()).masked_fill(~mask, 0.0)
    centred = shifted - masked_mean(shifted, lengths)[:, None]
    variance = masked_mean(centred.square(), lengths)
    varies = variance > 0
    return torch.where(varies, torch.where(varies, variance, 1.0).sqrt(), 0.0)


def masked_mean_std(features: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, 2 D): means of features (B, T, D) over their (B,) valid frames, then standard deviations."""
    return torch.cat([masked_mean(features, lengths), masked_deviation(features, lengths)], dim=-1)


def normalised(features: Tensor, lengths: Tensor) -> Tensor:
    """Return features (B, T, D) with mean 0 and deviation 1 per utterance and channel; 0 on padding.

    A channel that does not vary over the (B,) valid frames is 0.
    """
    mask = lengths_to_mask(lengths, features.shape[1])[..., None]
    shifted = features - features[:, :1]
    centred = shifted - masked_mean(shifted, lengths)[:, None]
    return (centred / masked_deviation(features, lengths).clamp(min=SMALL)[:, None]).masked_fill(~mask, 0.0)


def mean_std(features: Tensor) -> Tensor:
    """Return (..., 2 D): means of features (..., T, D) over all frames, then standard deviations."""
    shifted = features - features[..., :1, :]
    return torch.cat([features.mean(dim=-2), shifted.var(dim=-2, correction=0).sqrt()], dim=-1)
