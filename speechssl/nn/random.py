"""Counter-based random numbers: every row depends on its own seed and on nothing else.

Batch mates, padding, the number of workers and the device change no draw, and nothing has to be stored to
resume. Number `i` of a row is a hash of (seed, stream, i), with the finaliser of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", 2014). Prefixes are stable: asking for more numbers
keeps the first ones.
"""

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # odd 64-bit constants, written as the signed integers torch knows
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


def bits(seeds: Tensor, stream: int, count: int) -> Tensor:
    """Return (B, count) int64 random numbers in [0, 2**63), for seeds (B,) int64 and a small stream number.

    Streams of the same seed are independent of each other: give every purpose its own.
    """
    keys = _mix(_mix(seeds.long()) + stream)
    counters = torch.arange(1, count + 1, device=seeds.device) * _GOLDEN
    return _mix(keys[:, None] + counters) & 0x7FFFFFFFFFFFFFFF


def uniform(seeds: Tensor, stream: int, count: int) -> Tensor:
    """Return (B, count) float32 uniform numbers in [0, 1), multiples of 2**-24."""
    return (bits(seeds, stream, count) >> 39).float() * 2.0**-24


def normal(seeds: Tensor, stream: int, count: int) -> Tensor:
    """Return (B, count) float32 standard normal numbers (by inversion; none is beyond 5.4 sigma)."""
    centred = uniform(seeds, stream, count).mul_(2.0).add_(2.0**-24 - 1.0)  # in (-1, 1), both ends excluded
    return torch.erfinv(centred).mul_(math.sqrt(2.0))


def _mix(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _FIRST  # the masks make the shifts logical: torch shifts the sign in
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _SECOND
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
