"""Which patches of a padded batch are audio: by the frames they cover, or by the rule of the published code.

That code (https://github.com/microsoft/unilm, `beats/`) shrinks a mask over n samples to m frames, and that to patches:
the last n mod m entries are dropped, the rest is cut into m equal groups, and a group is padding where all of it is.
Frames and patches thus count as padding by their rank, not by what they cover, and how many are valid depends on the
batch: a clip of 26,000 samples has 81 valid patches in a batch of 40,000, and 80 alone. Published numbers were measured
that way; everything else should use the exact rule.
"""

import torch
from torch import Tensor

RULES = ("exact", "official")
BANDS = 8  # patches that share a column of the spectrogram
PATCH = 16  # frames and mel bins
WINDOW, HOP = 400, 160  # samples


def num_tokens(frames: Tensor) -> Tensor:
    """Return (B,) patches for (B,) frames; incomplete columns hold none."""
    return BANDS * (frames // PATCH).clamp(min=0)


def official_frames(lengths: Tensor, padded_samples: int, frames: int) -> Tensor:
    """Return (B, frames) bool, True on what the published code takes for audio frames.

    Padding is at the end, so group number g of s entries holds audio where its first entry, g * s, does.
    """
    group = padded_samples // frames
    return torch.arange(frames, device=lengths.device) * group < lengths[:, None]


def official_valid(lengths: Tensor, padded_samples: int, frames: int, size: int) -> Tensor:
    """Return (B, size) bool, True on what the published code takes for patches of audio.

    Args:
        lengths: (B,) samples.
        padded_samples: S of the batch.
        frames: T of the batch.
        size: N of the batch.
    """
    counts = official_frames(lengths, padded_samples, frames).sum(dim=1)
    return torch.arange(size, device=lengths.device) * (frames // size) < counts[:, None]
