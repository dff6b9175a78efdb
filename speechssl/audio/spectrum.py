"""Frames to log-mel energies, in two ways that agree: blocks for the CPU, one batch for accelerators and
gradients.

On a CPU one clip at a time is cut into blocks of frames that stay in the cache, with buffers allocated once a
call; a whole batch at once would be slower than a plain loop. The power spectrum avoids the square root of
the complex absolute value, and the mel product is done in bands because most of a filter bank is zeros.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

BLOCK = 512  # frames; 1 MB each of windowed frames and of spectra
BAND = 16  # filters per product; matrix kernels are fastest with multiples of 16 columns


class Block:
    """Buffers for one block of frames, shared by all blocks of a call."""

    def __init__(self, frames: int, window_size: int, fft_size: int) -> None:
        rows, num_bins = min(frames, BLOCK), fft_size // 2 + 1
        self.scratch = torch.empty(rows, window_size)
        self.windowed = torch.zeros(rows, fft_size)  # columns from window_size on stay zero
        self.spectrum = torch.empty(rows, num_bins, dtype=torch.complex64)
        self.power = torch.empty(rows, num_bins)


def log_mel_clip_(
    frames: Tensor,
    out: Tensor,
    block: Block,
    bank: Tensor,
    bands: list[tuple[int, int, int, int]],
    window_: Callable[[Tensor, Tensor, Tensor], None],
    log_: Callable[[Tensor], Tensor],
) -> None:
    """Fill `out` (T, F) with the log-mel energies of one clip.

    Args:
        frames: (T, W) overlapping view of the clip.
        out: (T, F), contiguous.
        block: buffers.
        bank: (bins, F).
        bands: of `mel.band_ranges`.
        window_: (frames, scratch, out) writes conditioned and windowed frames.
        log_: takes the logarithm in place.
    """
    for start in range(0, frames.shape[0], BLOCK):
        part, mel = frames[start : start + BLOCK], out[start : start + BLOCK]
        count, width = part.shape
        windowed = block.windowed[:count]
        window_(part, block.scratch[:count], windowed[:, :width])
        spectrum = torch.fft.rfft(windowed, out=block.spectrum[:count])
        power = torch.mul(spectrum.real, spectrum.real, out=block.power[:count])
        power.addcmul_(spectrum.imag, spectrum.imag)
        for first, last, low, high in bands:
            torch.mm(power[:, low:high], bank[low:high, first:last], out=mel[:, first:last])
        log_(mel)


def log_mel_batch(windowed: Tensor, fft_size: int, bank: Tensor, log_: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (B, T, F) log-mel energies of conditioned and windowed frames (B, T, W)."""
    spectrum = torch.fft.rfft(windowed, n=fft_size)
    power = spectrum.real.square() + spectrum.imag.square()
    return log_(power @ bank)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Compute in real float32: no autocast, and no TF32 or bfloat16 products, whatever the program set."""
    with torch.autocast(device_type, enabled=False):
        if torch.compiler.is_compiling():
            yield
            return
        settings = _matmul_precisions()
        try:
            for owner, name, _ in settings:
                setattr(owner, name, "ieee" if name == "fp32_precision" else False)
            yield
        finally:
            for owner, name, before in settings:
                setattr(owner, name, before)


def _matmul_precisions() -> list[tuple[Any, str, Any]]:
    """Return (module, attribute, value) of torch's precision switches; torch before 2.9 has another one."""
    cuda = torch.backends.cuda.matmul
    if not hasattr(cuda, "fp32_precision"):
        return [(cuda, "allow_tf32", cuda.allow_tf32)]
    owners = (cuda, torch.backends.mkldnn.matmul)
    return [(owner, "fp32_precision", owner.fp32_precision) for owner in owners]
