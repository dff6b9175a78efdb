"""Random numbers of training: every micro-batch, step and evaluation has its own seed, so nothing needs to be
saved.

Dropout and the like draw from the global generators. Setting those from (seed, purpose, number) right before
use makes a step a function of its number: a resumed run repeats it exactly, and an evaluation in between
changes nothing. Micro-batches are counted over ranks and accumulation together, so how they are spread does
not matter either.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

START, MICRO_BATCH, AFTER_STEP, EVALUATION, SNAPSHOT = range(5)  # purposes
WORD = 2**64 - 1


def derived_seed(*numbers: int) -> int:
    """Mix whole numbers into one of 63 bits (the finaliser of SplitMix64; Steele, Lea and Flood, 2014)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & WORD)) + 0x9E3779B97F4A7C15 & WORD
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & WORD
        state = (state ^ state >> 27) * 0x94D049BB133111EB & WORD
        state ^= state >> 31
    return state >> 1


def seed_generators(device: torch.device, *numbers: int) -> None:
    """Set the generators of Python, NumPy and PyTorch (CPU and `device`) from these numbers."""
    seed = derived_seed(*numbers)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)  # 80 times cheaper than torch.manual_seed, which visits every backend
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


@contextmanager
def generators_restored(device: torch.device) -> Iterator[None]:
    """Give the caller's global generators back as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
