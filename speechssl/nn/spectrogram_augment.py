"""Augmentation of normalised spectrograms as AST and SSAST fine-tune with it: two masks, noise, a shift in time.

Gong, Chung and Glass, 2021 (https://arxiv.org/abs/2104.01778), after SpecAugment (Park et al., 2019). Differs from
the authors' code: masks and shift stay within the valid frames of a clip, the last bin and frame are masked as often as
the first, and draws come from the clip's own seed, so neither batch mates nor padding change them.
"""

import torch
from torch import Tensor

from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.random import uniform

BINS, FRAMES, LEVEL, CELLS, SHIFT = range(5)  # random streams
LOUDEST_NOISE = 0.1  # of the noise's upper end, in units of normalised features
FARTHEST = 10  # frames of the shift


def mask_spectrogram(
    features: Tensor, frames: Tensor, seeds: Tensor, *, widest_bins: int, widest_frames: int, fill: float
) -> Tensor:
    """Fill one span of mel bins and one of frames with `fill`.

    Widths are uniform in 0..widest - 1, places uniform over those that fit.

    Args:
        features: (B, T, F).
        frames: (B,) valid frames; padding stays as it is.
        seeds: (B,) of the utterances.
        widest_bins: 0 masks none.
        widest_frames: 0 masks none.
        fill: value of masked cells.
    """
    T, F = features.shape[1:]
    bins = _span(seeds, BINS, torch.full_like(frames, F), widest_bins, F)
    times = _span(seeds, FRAMES, frames, widest_frames, T)
    masked = (bins[:, None, :] | times[:, :, None]) & lengths_to_mask(frames, T)[:, :, None]
    return features.masked_fill(masked, fill)


def _span(seeds: Tensor, stream: int, sizes: Tensor, widest: int, length: int) -> Tensor:
    """Return (B, length) bool: one span per row within the first `sizes` places."""
    draws = uniform(seeds, stream, 2)
    width = (draws[:, 0] * sizes.clamp(max=widest)).floor()
    start = (draws[:, 1] * (sizes - width + 1)).floor()
    place = torch.arange(length, device=seeds.device)
    return (place >= start[:, None]) & (place < (start + width)[:, None])


def add_noise(features: Tensor, frames: Tensor, seeds: Tensor) -> Tensor:
    """Add to every valid cell of (B, T, F) a number in [0, 1) times the utterance's level in [0, 0.1)."""
    B, T, F = features.shape
    level = LOUDEST_NOISE * uniform(seeds, LEVEL, 1)[:, :, None]
    noise = level * uniform(seeds, CELLS, T * F).view(B, T, F)
    return features + noise * lengths_to_mask(frames, T)[:, :, None]


def shift_in_time(features: Tensor, frames: Tensor, seeds: Tensor) -> Tensor:
    """Rotate the valid frames of (B, T, F) by a whole number of frames in -10..9; padding stays in its place."""
    place = torch.arange(features.shape[1], device=features.device)[None]
    shift = (uniform(seeds, SHIFT, 1) * 2 * FARTHEST).long() - FARTHEST
    valid = frames.clamp(min=1)[:, None]
    source = torch.where(place < frames[:, None], (place - shift) % valid, place)
    return features.gather(1, source[:, :, None].expand_as(features))
