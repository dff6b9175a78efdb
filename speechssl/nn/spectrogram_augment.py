"""Augmentation of normalised spectrograms: two masks, noise, a shift in time, a warp of time.

As AST and SSAST fine-tune (Gong, Chung and Glass, 2021, https://arxiv.org/abs/2104.01778), and, with the warp, ESPnet
fine-tunes BEATs, after SpecAugment (Park et al., 2019, https://arxiv.org/abs/1904.08779). Differs from their code: all
stays within the valid frames of a clip, the last bin and frame are masked as often as the first, the warp interpolates
linearly and without a seam (ESPnet: bicubic, each side by itself), and draws come from the clip's own seed, so neither
batch mates nor padding change them.
"""

import torch
from torch import Tensor

from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.random import uniform

BINS, FRAMES, LEVEL, CELLS, SHIFT, WARP = range(6)  # random streams
LOUDEST_NOISE = 0.1  # of the noise's upper end, in units of normalised features
FARTHEST = 10  # frames of the shift


def mask_spectrogram(
    features: Tensor, frames: Tensor, seeds: Tensor, *, widest_bins: int, widest_frames: int | Tensor, fill: float
) -> Tensor:
    """Fill one span of mel bins and one of frames with `fill`.

    Widths are uniform in 0..widest - 1, places uniform over those that fit.

    Args:
        features: (B, T, F).
        frames: (B,) valid frames; padding stays as it is.
        seeds: (B,) of the utterances.
        widest_bins: 0 masks none.
        widest_frames: 0 masks none; a tensor (B,) has a number for each clip.
        fill: value of masked cells.
    """
    T, F = features.shape[1:]
    bins = _span(seeds, BINS, torch.full_like(frames, F), widest_bins, F)
    times = _span(seeds, FRAMES, frames, widest_frames, T)
    masked = (bins[:, None, :] | times[:, :, None]) & lengths_to_mask(frames, T)[:, :, None]
    return features.masked_fill(masked, fill)


def _span(seeds: Tensor, stream: int, sizes: Tensor, widest: int | Tensor, length: int) -> Tensor:
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
    return _frames_at(features, source)


def warp_time(features: Tensor, frames: Tensor, seeds: Tensor, *, farthest: int) -> Tensor:
    """Move one frame of each clip by up to `farthest` frames; what is before and after it is stretched to fit.

    The frame is uniform over those at least `farthest` from both ends, its move uniform over 1 - farthest..farthest.
    Clips of no more than 2 * farthest frames, and padding, stay as they are.

    Args:
        features: (B, T, F).
        frames: (B,) valid frames.
        seeds: (B,) of the utterances.
        farthest: frames.
    """
    draws, room = uniform(seeds, WARP, 2), frames - 2 * farthest
    origin = farthest + (draws[:, :1] * room[:, None].clamp(min=1)).floor()
    target = origin + 1 - farthest + (draws[:, 1:] * 2 * farthest).floor()
    place, valid = torch.arange(features.shape[1], device=features.device)[None], frames[:, None]
    middle = place + 0.5  # of a frame, so that both ends of the clip stay where they are
    before = middle * origin / target.clamp(min=1)
    after = origin + (middle - target) * (valid - origin) / (valid - target).clamp(min=1)
    source = torch.where(middle < target, before, after) - 0.5
    source = torch.minimum(source.clamp(min=0), valid - 1)
    source = torch.where((place < valid) & (room[:, None] > 0), source, place)
    low = source.floor()
    high = torch.minimum(low + 1, torch.maximum(valid - 1, low)).long()
    share = (source - low)[:, :, None].to(features.dtype)
    return torch.lerp(_frames_at(features, low.long()), _frames_at(features, high), share)


def _frames_at(features: Tensor, source: Tensor) -> Tensor:
    """Return frames number `source` (B, T) of (B, T, F)."""
    return features.gather(1, source[:, :, None].expand_as(features))
