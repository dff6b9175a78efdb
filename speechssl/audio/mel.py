"""Mel filter banks and analysis windows.

Two conventions are in use, both without normalising the filters' area. HTK's triangles are straight lines
over Hz, as in torchaudio's and librosa's `htk` banks. Kaldi's are straight over mel and leave the Nyquist
bin out. Both place the edges evenly on one scale, 2595 log10(1 + f / 700) = 1127 ln(1 + f / 700).

Everything is computed in float32 in the order of torchaudio's functions: where a bin holds little energy,
the last bit of a window or a weight shows in the third decimal of a log energy, and published models were
trained with theirs.
"""

import math

import torch
from torch import Tensor

from speechssl.errors import UserError, nearest

BLACKMAN = 0.42  # Kaldi's default coefficient
WINDOWS = ("blackman", "hamming", "hann", "povey", "rectangular")


def analysis_window(name: str, size: int, periodic: bool = False) -> Tensor:
    """Return an analysis window (size,); symmetric as in Kaldi, or periodic as for a centred STFT."""
    if name not in WINDOWS:
        raise UserError(f"unknown window {name!r}; known: {', '.join(WINDOWS)}{nearest(name, WINDOWS)}")
    if name == "rectangular":
        return torch.ones(size)
    if name == "blackman":
        turn = 2 * math.pi / (size if periodic else size - 1)
        index = torch.arange(size, dtype=torch.float32)
        return BLACKMAN - 0.5 * torch.cos(turn * index) + (0.5 - BLACKMAN) * torch.cos(2 * turn * index)
    if name == "hamming":
        return torch.hamming_window(size, periodic=periodic, alpha=0.54, beta=0.46, dtype=torch.float32)
    hann = torch.hann_window(size, periodic=periodic, dtype=torch.float32)
    return hann.pow(0.85) if name == "povey" else hann


def htk_bank(num_bins: int, num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return (num_bins, num_mels) triangles over Hz, for bins spread evenly from 0 to Nyquist."""
    high_freq = _upper_edge(num_mels, sample_rate, low_freq, high_freq)
    low, high = (2595 * math.log10(1 + f / 700) for f in (low_freq, high_freq))
    edges = 700 * (10 ** (torch.linspace(low, high, num_mels + 2, dtype=torch.float32) / 2595) - 1)
    bins = torch.linspace(0, sample_rate / 2, num_bins, dtype=torch.float32)
    return _triangles(bins, edges[:-2], edges[1:-1], edges[2:])


def kaldi_bank(fft_size: int, num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return (fft_size // 2 + 1, num_mels) triangles over mel; the Nyquist bin has weight 0."""
    high_freq = _upper_edge(num_mels, sample_rate, low_freq, high_freq)
    low, high = (1127 * math.log(1 + f / 700) for f in (low_freq, high_freq))
    step = (high - low) / (num_mels + 1)
    index = torch.arange(num_mels, dtype=torch.float32)
    hertz = sample_rate / fft_size * torch.arange(fft_size // 2 + 1, dtype=torch.float32)
    mels = 1127 * (1 + hertz / 700).log()
    bank = _triangles(mels, low + index * step, low + (index + 1) * step, low + (index + 2) * step)
    bank[-1] = 0
    return bank


def mel_centres(num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> Tensor:
    """Return (num_mels,) centre frequencies in Hz, the same in both conventions."""
    high_freq = _upper_edge(num_mels, sample_rate, low_freq, high_freq)
    low, high = (1127 * math.log(1 + f / 700) for f in (low_freq, high_freq))
    return 700 * ((torch.linspace(low, high, num_mels + 2)[1:-1] / 1127).exp() - 1)


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


def _upper_edge(num_mels: int, sample_rate: int, low_freq: float, high_freq: float) -> float:
    """Return the upper edge in Hz; a zero or negative `high_freq` counts down from Nyquist, as in Kaldi."""
    nyquist = sample_rate / 2
    high = high_freq if high_freq > 0 else nyquist + high_freq
    if num_mels < 1 or not 0 <= low_freq < high <= nyquist:
        raise UserError(
            f"expected num_mels >= 1 and 0 <= low_freq < high_freq <= {nyquist:g} Hz, "
            f"found num_mels={num_mels}, low_freq={low_freq:g}, high_freq={high_freq:g}"
        )
    return high


def _triangles(bins: Tensor, left: Tensor, centre: Tensor, right: Tensor) -> Tensor:
    rising = (bins[:, None] - left) / (centre - left)
    falling = (right - bins[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0)
