"""Spectrograms as patches of 16 frames by 16 mel bins, and which of them are audio by either mask rule."""

from typing import NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError, nearest
from speechssl.upstream.beats.masks import BANDS, PATCH, RULES, num_tokens, official_valid
from speechssl.upstream.beats.spectrogram import NUM_MELS, Spectrogram


class Picture(NamedTuple):
    """The spectrograms of a batch."""

    cells: Tensor  # (B, T, 128) normalised
    frames: Tensor  # (B,) valid frames
    valid: Tensor  # (B, N) bool, True on patches of audio


def to_patches(cells: Tensor) -> Tensor:
    """Return (B, N, 256) patches of a normalised spectrogram (B, T, 128), inside a patch time slow and mel fast.

    Raises:
        UserError: another number of mel bins.
    """
    if cells.dim() != 3 or cells.shape[2] != NUM_MELS:
        raise UserError(f"expected spectrograms (B, T, {NUM_MELS}), found shape {tuple(cells.shape)}")
    B, columns = cells.shape[0], cells.shape[1] // PATCH
    cut = cells[:, : PATCH * columns].reshape(B, columns, PATCH, BANDS, PATCH)
    return cut.transpose(2, 3).reshape(B, BANDS * columns, PATCH * PATCH)


def whole_columns(cells: Tensor, frames: Tensor) -> Tensor:
    """Return (B, N) bool, True on patches of valid frames only, for cells (B, T, 128) with (B,) valid frames."""
    size = BANDS * (cells.shape[1] // PATCH)
    return torch.arange(size, device=cells.device) < num_tokens(frames)[:, None]


def picture(spectrogram: Spectrogram, waveforms: Tensor, lengths: Tensor, rule: str) -> Picture:
    """Return spectrograms of (B, S) waveforms with (B,) valid samples, and which patches count by the mask rule."""
    if rule not in RULES:
        raise UserError(f"unknown mask_rule {rule!r}; known: {', '.join(RULES)}{nearest(rule, RULES)}")
    if rule == "exact":
        cells, frames = spectrogram(waveforms, lengths)
        if torch.compiler.is_exporting():
            cells = _longest(cells, frames)
        return Picture(cells, frames, whole_columns(cells, frames))
    # The published code reads the silence behind a clip as well, and takes some of it for audio.
    samples = waveforms.shape[1]
    inside = torch.arange(samples, device=lengths.device) < lengths[:, None]
    cells, frames = spectrogram(waveforms * inside, torch.full_like(lengths, samples))
    size = BANDS * (cells.shape[1] // PATCH)
    return Picture(cells, frames, official_valid(lengths, samples, cells.shape[1], size))


def _longest(cells: Tensor, frames: Tensor) -> Tensor:
    """Return the whole columns of the longest clip: a length read from data, which no guard can tie to one batch."""
    columns = (frames // PATCH).max().item()
    torch._check(columns >= 1)
    return cells.index_select(1, torch.arange(PATCH * columns, device=cells.device))
