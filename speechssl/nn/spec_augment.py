"""SpecAugment on features (Park et al., 2019, https://arxiv.org/abs/1904.08779), with SUPERB's settings for
ASR.

Order: time warp, channel masks, time masks; masked values are 0. Draws come from PyTorch's global generator,
    which the
training loop sets from (seed, step) before every micro-batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpecAugment(nn.Module):
    """Warps and masks (B, T, D) features in training; hands them through in evaluation.

    Args:
        warp: largest shift of the warp's centre, in frames; shorter utterances than 2 * warp + 1 frames are
            not warped.
        num_channel_masks: masks along D per utterance.
        max_channels: widest channel mask, in channels (widths are uniform from 0 on).
        num_time_masks: masks along T per utterance.
        max_frames: widest time mask, in frames.
    """

    def __init__(
        self,
        warp: int = 5,
        num_channel_masks: int = 4,
        max_channels: int = 49,
        num_time_masks: int = 2,
        max_frames: int = 39,
    ):
        super().__init__()
        self.warp = warp
        self.num_channel_masks, self.max_channels = num_channel_masks, max_channels
        self.num_time_masks, self.max_frames = num_time_masks, max_frames

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Augment (B, T, D) with (B,) valid frames."""
        if not self.training:
            return features
        rows = [warp_time(row[:n], self.warp) for row, n in zip(features, lengths.tolist(), strict=True)]
        B, T, D = features.shape
        warped = torch.stack([F.pad(row, (0, 0, 0, T - len(row))) for row in rows]) if self.warp else features
        channels = random_spans(B, D, self.num_channel_masks, self.max_channels).to(features.device)
        frames = random_spans(B, T, self.num_time_masks, self.max_frames).to(features.device)
        return warped.masked_fill(channels[:, None, :] | frames[:, :, None], 0.0)


def warp_time(features: Tensor, window: int) -> Tensor:
    """Move a random frame of (T, D) by up to `window` frames, stretching what is around it (bicubic)."""
    T = len(features)
    if window < 1 or 2 * window >= T:
        return features
    centre = int(torch.randint(window, T - window, ()))
    moved = int(torch.randint(centre - window, centre + window, ())) + 1
    parts = [(features[:centre], moved), (features[centre:], T - moved)]
    stretched = [
        F.interpolate(part[None, None], (size, part.shape[1]), mode="bicubic", align_corners=False)[0, 0]
        for part, size in parts
    ]
    return torch.cat(stretched)


def random_spans(batch: int, size: int, count: int, widest: int) -> Tensor:
    """Return (batch, size) bool: `count` spans per row, widths uniform in 0..widest, drawn on the CPU.

    The last possible start leaves room for the widest span of the whole batch.
    """
    if count < 1:
        return torch.zeros(batch, size, dtype=torch.bool)
    widths = torch.randint(0, widest + 1, (batch, count))
    starts = torch.randint(0, max(1, size - int(widths.max())), (batch, count))
    position = torch.arange(size)
    inside = (position >= starts[..., None]) & (position < (starts + widths)[..., None])
    return inside.any(dim=1)
