"""Delta features: the slope of a line fitted over neighbouring frames, edges repeated, as in HTK."""

import torch
from torch import Tensor

from speechssl.errors import UserError


def append_deltas(features: Tensor, lengths: Tensor, order: int, window: int = 5) -> Tensor:
    """Append `order` rounds of deltas to (B, T, F) features: [static | delta | delta of delta ...], (B, T, F
    (order + 1)).

    Each utterance repeats its own last valid frame, so padding has no influence.

    Args:
        features: (B, T, F).
        lengths: (B,) valid frames.
        order: 0 returns the features unchanged.
        window: frames the line is fitted over, odd and at least 3.
    """
    if order < 0 or window < 3 or window % 2 == 0:
        raise UserError(f"expected deltas >= 0 and an odd delta_window >= 3, found {order} and {window}")
    blocks = [features]
    for _ in range(order):
        blocks.append(_delta(blocks[-1], lengths, window // 2))
    return torch.cat(blocks, dim=-1) if order else features


def _delta(features: Tensor, lengths: Tensor, reach: int) -> Tensor:
    B, T, F = features.shape
    last = (lengths - 1).clamp(min=0)
    final = features.gather(1, last.view(B, 1, 1).expand(B, 1, F))
    beyond = torch.arange(T, device=features.device) > last[:, None]
    features = torch.where(beyond[..., None], final, features)
    padded = torch.cat([features[:, :1].expand(B, reach, F), features, final.expand(B, reach, F)], dim=1)
    slope = torch.zeros_like(features)
    for n in range(1, reach + 1):
        ahead, behind = padded[:, reach + n : reach + n + T], padded[:, reach - n : reach - n + T]
        slope = slope + n * (ahead - behind)
    return slope / (2 * sum(n * n for n in range(1, reach + 1)))
