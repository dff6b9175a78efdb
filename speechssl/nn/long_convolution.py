"""Grouped convolution along time with many taps, by whichever way is faster on the device.

On a CPU, a direct convolution of few channels per group leaves most of its arithmetic units idle. Multiplying spectra
does less work as soon as enough clips share the transformed weights: four times as fast forward and backward with 128
taps and 12 channels per group.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

FFT_COST = 18.0  # of an operation of the transform relative to one of a wide direct convolution; measured on one core
WIDE = 26  # channels per group from which on a direct convolution is at its best


def convolve(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Return (B, N, D): output t sees inputs t - K // 2 ... t + (K - 1) // 2, with zeros outside.

    Args:
        x: (B, N, D).
        weight: (D, D / groups, K).
        bias: (D,).
        groups: of channels.
    """
    if _spectra_are_faster(x, weight):
        return by_spectra(x, weight, bias, groups)
    out = F.conv1d(x.transpose(1, 2), weight, bias, padding=weight.shape[2] // 2, groups=groups)
    return out[..., : x.shape[1]].transpose(1, 2)


def by_spectra(x: Tensor, weight: Tensor, bias: Tensor, groups: int) -> Tensor:
    """Return the same in float32, computed as products of spectra."""
    (B, N, D), taps = x.shape, weight.shape[2]
    size = _transform_size(N, taps)
    with torch.autocast(x.device.type, enabled=False):
        signal = torch.fft.rfft(x.float().transpose(1, 2), n=size).unflatten(1, (groups, -1))
        filters = torch.fft.rfft(weight.float(), n=size).conj().unflatten(0, (groups, -1))
        product = torch.matmul(
            signal.permute(3, 1, 0, 2), filters.permute(3, 0, 2, 1)
        )  # (frequencies, groups, B, D / g)
        out = torch.fft.irfft(product.permute(2, 1, 3, 0).reshape(B, D, -1), n=size)
        out = out.roll(taps // 2, dims=-1)[..., :N] + bias.float()[:, None]
    return out.transpose(1, 2)


def _transform_size(size: int, taps: int) -> int:
    """Return a length that holds the whole convolution and has small factors."""
    return -(-(size + taps) // 16) * 16


def _spectra_are_faster(x: Tensor, weight: Tensor) -> bool:
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    (B, N, D), (_, width, taps) = x.shape, weight.shape
    size = _transform_size(N, taps)
    transforms = 2.5 * size * math.log2(size) * (D * width + 2 * B * D)
    direct = 2.0 * B * N * D * width * taps * max(1.0, WIDE / width)
    return FFT_COST * transforms < direct
