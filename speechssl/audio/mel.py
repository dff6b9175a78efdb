"""Mel filter banks and analysis windows, computed in float64 and kept in float32.

Two conventions are in use. HTK (O'Shaughnessy, 2595 log10(1 + f / 700)) with triangles that are straight
lines over Hz, as in torchaudio and librosa; and Kaldi's (1127 ln(1 + f / 700), the same scale) with triangles
that are straight over mel, from 20 Hz on, the Nyquist bin left out. None normalises the filters' area.
"""

import math

import torch
from torch import Tensor

from speechssl.errors import UserError, nearest

BLACKMAN = 0.42  # Kaldi's default coefficient
WINDOWS = {
    "hann": lambda cosine: 0.5 - 0.5 * cosine,
    "povey": lambda cosine: (0.5 - 0.5 * cosine).pow(0.85),
    "hamming": lambda cosine: 0.54 - 0.46 * cosine,
    "blackman": lambda cosine: BLACKMAN - 0.5 * cosine + (0.5 - BLACKMAN) * (2 * cosine.square() - 1),
    "rectangular": torch.ones_like,
}


def analysis_window(name: str, size: int, periodic: bool = False) -> Tensor:
    """Return an analysis window (size,); symmetric as in Kaldi, or periodic as for a centred STFT."""
    if name not in WINDOWS:
        raise UserError(f"unknown window {name!r}; known: {', '.join(WINDOWS)}{nearest(name, WINDOWS)}")
    angle = 2 * math.pi * torch.arange(size, dtype=torch.float64) / (size if periodic else size - 1)
    return WINDOWS[name](angle.cos()).float()


def htk_bank(num_bins: int, num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return (num_bins, num_mels) triangles over Hz, for bins spread evenly from 0 to Nyquist."""
    edges = 700 * (torch.expm1(_mel_edges(num_mels, sample_rate, low_freq, high_freq) / 1127))
    bins = torch.linspace(0, sample_rate / 2, num_bins, dtype=torch.float64)
    return _triangles(bins, edges).float()


def kaldi_bank(fft_size: int, num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return (fft_size // 2 + 1, num_mels) triangles over mel; the Nyquist bin has weight 0."""
    edges = _mel_edges(num_mels, sample_rate, low_freq, high_freq)
    bins = torch.arange(fft_size // 2 + 1, dtype=torch.float64) * (sample_rate / fft_size)
    bank = _triangles(_mel(bins), edges)
    bank[-1] = 0
    return bank.float()


def band_ranges(bank: Tensor, width: int) -> list[tuple[int, int, int, int]]:
    """Split a bank into groups of `width` neighbouring filters that each need only part of the spectrum.

    Returns:
        (first filter, last + 1, first bin, last + 1) per group. A product per group skips most of the zeros.
    """
    num_mels = bank.shape[1]
    ranges = []
    for first in range(0, num_mels, width):
        last = min(first + width, num_mels)
        used = bank[:, first:last].ne(0).any(dim=1).nonzero().flatten().tolist() or [0]
        ranges.append((first, last, used[0], used[-1] + 1))
    return ranges


def _mel(hertz: Tensor) -> Tensor:
    return 1127 * torch.log1p(hertz / 700)


def _mel_edges(num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return num_mels + 2 evenly spaced mels; a zero or negative `high_freq` counts down from Nyquist."""
    nyquist = sample_rate / 2
    high = high_freq if high_freq > 0 else nyquist + high_freq
    if num_mels < 1 or not 0 <= low_freq < high <= nyquist:
        raise UserError(
            f"expected num_mels >= 1 and 0 <= low_freq < high_freq <= {nyquist:g} Hz, "
            f"found num_mels={num_mels}, low_freq={low_freq:g}, high_freq={high_freq:g}"
        )
    first, last = _mel(torch.tensor([low_freq, high], dtype=torch.float64)).tolist()
    return torch.linspace(first, last, num_mels + 2, dtype=torch.float64)


def _triangles(bins: Tensor, edges: Tensor) -> Tensor:
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)
