"""Grouped convolution along time with many taps, by whichever way is faster on the device.

On a CPU, a direct convolution of few channels per group leaves most of its arithmetic units idle. Multiplying spectra
does less work as soon as enough clips share the transformed weights: four times as fast forward and backward with 128
taps and 12 channels per group. Long clips are cut into blocks that overlap ("overlap-save"), so that the weights, which
are the most there is to transform, are transformed at about twice their taps and not at the length of the clip.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FFT_COST = 24.0  # of an operation of the transform relative to one of a wide direct convolution; measured on one core
WIDE = 26  # channels per group from which on a direct convolution is at its best


def convolve(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Return (B, N, D): output t sees inputs t - K // 2 ... t + (K - 1) // 2, with zeros outside.

    Args:
        x: (B, N, D).
        weight: (D, D / groups, K).
        bias: (D,).
        groups: of channels.
    """
    size = _best_size(x, weight)
    if size is not None:
        return by_spectra(x, weight, bias, groups, size)
    out = F.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=groups)
    return out[..., : x.shape[1]].transpose(1, 2)


def by_spectra(x: Tensor, weight: Tensor, bias: Tensor, groups: int, size: int) -> Tensor:
    """Return the same in float32, computed as products of spectra of `size` inputs, of which K - 1 are shared."""
    (B, N, D), taps = x.shape, weight.shape[2]
    step = size - taps + 1  # outputs of a block
    blocks = -(-N // step)
    before = taps // 2
    with torch.autocast(x.device.type, enabled=False):
        padded = F.pad(x.float().transpose(1, 2), (before, blocks * step + taps - 1 - before - N))
        signal = torch.fft.rfft(padded.unfold(2, size, step)).unflatten(1, (groups, -1))
        filters = torch.fft.rfft(weight.float(), n=size).conj().unflatten(0, (groups, -1))
        rows = signal.permute(4, 1, 0, 3, 2).flatten(2, 3)  # (frequencies, groups, B * blocks, D / groups)
        product = torch.matmul(rows, filters.permute(3, 0, 2, 1)).unflatten(2, (B, blocks))
        pieces = torch.fft.irfft(product.permute(2, 1, 4, 3, 0).reshape(B, D, blocks, -1), n=size)
        out = pieces[..., :step].flatten(2)[..., :N] + bias.float()[:, None]
    return out.transpose(1, 2)


def _sizes(size: int, taps: int) -> list[int]:
    """Return lengths of transforms with small factors: one block for all, or blocks of about as many as the taps."""
    whole, block = (-(-length // 16) * 16 for length in (size + taps - 1, 2 * taps))
    return [whole, block] if block < whole else [whole]


def _best_size(x: Tensor, weight: Tensor) -> int | None:
    """Return the length of the transforms with which spectra are fastest; None where a direct convolution is."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    (B, N, D), (_, width, taps) = x.shape, weight.shape

    def cost(size: int) -> float:
        blocks = -(-N // (size - taps + 1))
        return FFT_COST * 2.5 * size * math.log2(size) * (D * width + 2 * B * D * blocks)

    best = min(_sizes(N, taps), key=cost)
    direct = 2.0 * B * N * D * width * taps * max(1.0, WIDE / width)
    return best if cost(best) < direct else None
