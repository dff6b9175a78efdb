"""Pooling over time that padding cannot change."""

from torch import Tensor

from speechssl.nn.padding import lengths_to_mask


def masked_mean(features: Tensor, lengths: Tensor) -> Tensor:
    """Return means (B, D) of features (B, T, D) over their (B,) valid frames; 0 where there are none."""
    mask = lengths_to_mask(lengths, features.shape[1])
    total = features.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / lengths.clamp(min=1)[:, None]
