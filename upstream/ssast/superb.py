"""How s3prl 0.4.18 feeds SSAST (https://github.com/s3prl/s3prl): windows of one second, side by side.

Each window is normalised, then padded to 100 frames, and encoded on its own; the results are joined. A window gives 99
(frame) or 9 (patch) vectors where the declared rate implies 100 or 10, so its features drift against time; what is left
at the end is cut to the number that the rate implies.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SAMPLE_RATE = 16000
HOP = 160  # samples


class Windows(NamedTuple):
    """Windows of a batch, side by side."""

    waveforms: Tensor  # (B * W, samples)
    lengths: Tensor  # (B * W,) samples, all of them: the zeros at the end count
    per_clip: int  # W
    clip_lengths: Tensor  # (B,) samples


def frames(seconds: float) -> int:
    """Return the frames that a window is padded to."""
    return int(seconds * SAMPLE_RATE / HOP)


def cut(waveforms: Tensor, lengths: Tensor, seconds: float) -> Windows:
    """Cut (B, S) waveforms with (B,) valid samples."""
    size = int(seconds * SAMPLE_RATE)
    inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
    padded = F.pad(waveforms.masked_fill(~inside, 0.0), (0, -waveforms.shape[1] % size))
    windows = padded.reshape(-1, size)
    full = torch.full((len(windows),), size, device=waveforms.device)
    return Windows(windows, full, padded.shape[1] // size, lengths)


def join(states: Tensor, windows: Windows) -> Tensor:
    """Return (B, W * T, D) of hidden states (B * W, T, D)."""
    return states.reshape(len(windows.clip_lengths), -1, states.shape[-1])


def valid(windows: Windows, steps: int, rate: int) -> Tensor:
    """Return (B,) valid vectors, `steps` per window, at a declared rate of so many samples."""
    size = windows.waveforms.shape[1]
    lengths = windows.clip_lengths
    return torch.minimum(steps * -(-lengths // size), -(-lengths // rate))
