"""Frames to log-mel energies, in two ways that agree: blocks for the CPU, one batch for accelerators and
gradients.

On a CPU one clip at a time is cut into blocks of frames that stay in the cache, with buffers allocated once a
call; a whole batch at once would be slower than a plain loop. The power spectrum avoids the square root of
the complex absolute value, and the mel product is done in bands because most of a filter bank is zeros.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 512  # frames; 1 MB each of windowed frames and of spectra
BAND = 16  # filters per product; matrix kernels are fastest with multiples of 16 columns


class Buffers(NamedTuple):
    """Views of the buffers for a number of frames; making them anew takes as long as a matrix product."""

    scratch: Tensor  # (T, W)
    framed: Tensor  # (T, W), the filled part of `padded`
    padded: Tensor  # (T, fft size), zero beyond W
    spectrum: Tensor  # (T, bins) complex
    parts: Tensor  # (T, 2 bins), the spectrum's real and imaginary parts in turn
    squares: Tensor  # (T, 2 bins)
    power: Tensor  # (T, bins)
    mel: Tensor  # (T, F)
    bands: list[tuple[Tensor, Tensor, Tensor]]  # per band: power, weights, mel


class BlockBuffers:
    """Memory for one block of frames at a time, shared by all blocks and clips of a call."""

    def __init__(
        self,
        frames: int,
        window_size: int,
        fft_size: int,
        bank: Tensor,
        bands: list[tuple[int, int, int, int]],
    ) -> None:
        rows, (num_bins, num_mels) = min(frames, BLOCK), bank.shape
        self.bank, self.ranges = bank, bands
        self.scratch = torch.empty(rows, window_size)
        self.padded = torch.zeros(rows, fft_size)
        self.spectrum = torch.empty(rows, num_bins, dtype=torch.complex64)
        self.squares = torch.empty(rows, 2 * num_bins)
        self.power, self.mel = torch.empty(rows, num_bins), torch.empty(rows, num_mels)
        self.known: dict[int, Buffers] = {}

    def views(self, rows: int) -> Buffers:
        """Return views of the first `rows` frames."""
        if rows not in self.known:
            scratch, padded, spectrum = self.scratch[:rows], self.padded[:rows], self.spectrum[:rows]
            power, mel = self.power[:rows], self.mel[:rows]
            bands = [(power[:, c:d], self.bank[c:d, a:b], mel[:, a:b]) for a, b, c, d in self.ranges]
            framed, parts = padded[:, : scratch.shape[1]], torch.view_as_real(spectrum).flatten(1)
            self.known[rows] = Buffers(scratch, framed, padded, spectrum, parts, self.squares[:rows], power, mel, bands)
        return self.known[rows]


def log_mel_clip_(
    frames: Tensor,
    out: Tensor,
    buffers: BlockBuffers,
    window_: Callable[[Tensor, Tensor, Tensor], None],
    floor_: Callable[[Tensor], Tensor],
) -> None:
    """Fill `out` (T, F) with the log-mel energies of one clip.

    Args:
        frames: (T, W) overlapping view of the clip.
        out: (T, F), contiguous.
        buffers: of a call.
        window_: (frames, scratch, out) writes conditioned and windowed frames.
        floor_: keeps energies away from zero, in place.
    """
    num_blocks = -(-frames.shape[0] // BLOCK)
    rows = -(-frames.shape[0] // num_blocks)  # even blocks, so that views are made once or twice
    for part, log_mel in zip(frames.split(rows), out.split(rows), strict=True):
        block = buffers.views(part.shape[0])
        window_(part, block.scratch, block.framed)
        torch.fft.rfft(block.padded, out=block.spectrum)
        torch.mul(block.parts, block.parts, out=block.squares)
        torch.add(block.squares[:, 0::2], block.squares[:, 1::2], out=block.power)
        for power, weights, mel in block.bands:
            torch.mm(power, weights, out=mel)
        torch.log(floor_(block.mel), out=log_mel)


def log_mel_batch(windowed: Tensor, fft_size: int, bank: Tensor, floor_: Callable[[Tensor], Tensor]) -> Tensor:
    """Return (B, T, F) log-mel energies of conditioned and windowed frames (B, T, W)."""
    spectrum = torch.fft.rfft(windowed, n=fft_size)
    power = spectrum.real.square() + spectrum.imag.square()
    return floor_(power @ bank).log()


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
