"""The order of training: micro-batch number k is a pure function of (lengths, settings, seed, k).

Every epoch is a seeded permutation, divided into pools. Inside a pool utterances are sorted by length and cut
into batches of bounded padded duration, so little is padding (5 to 8 % on spoken words); then the batches are
shuffled. Nothing depends on library generators, whose streams may change between versions, on workers, or on
what was drawn before: to resume, a number is all that is needed.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # increment of splitmix64 (Steele, Lea and Flood, 2014)
KEPT_EPOCHS = 4


class BatchSpec(NamedTuple):
    """A micro-batch before it is read."""

    number: int
    epoch: int
    indices: list[int]


def utterance_numbers(seed: int, epoch: int, identifier: str) -> tuple[int, int]:
    """Return two 63-bit numbers of (seed, epoch, utterance): for its masks and noise, for its crop."""
    key = f"{seed}/{epoch}/{identifier}".encode("utf-8", "surrogatepass")
    state = blake2b(key, digest_size=16).digest()
    return int.from_bytes(state[:8], "little") >> 1, int.from_bytes(state[8:], "little") >> 1


def seeded_order(size: int, seed: int, epoch: int, purpose: str) -> np.ndarray:
    """Return a permutation (size,): the order of the splitmix64 outputs of a keyed counter."""
    key = blake2b(f"{purpose}/{seed}/{epoch}".encode(), digest_size=8).digest()
    with np.errstate(over="ignore"):
        state = np.arange(1, size + 1, dtype=np.uint64) * GOLDEN + np.uint64(int.from_bytes(key, "little"))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


def cut_sorted(order: np.ndarray, lengths: np.ndarray, max_samples: int) -> list[np.ndarray]:
    """Cut utterances that are in order of rising length into batches.

    Args:
        order: (N,) indices; `lengths[order]` does not fall.
        lengths: samples of all utterances.
        max_samples: longest times count stays at or below this; a longer utterance is a batch of its own.
    """
    batches, first = [], 0
    ordered = lengths[order]
    while first < len(order):
        window = ordered[first : first + max_samples // max(int(ordered[first]), 1) + 1]
        padded = window * np.arange(1, len(window) + 1)
        last = first + max(1, int(np.searchsorted(padded, max_samples, side="right")))
        batches.append(order[first:last])
        first = last
    return batches


class BatchPlan:
    """Which utterances make up micro-batch number k.

    Args:
        lengths: (N,) samples as they will be read, that is after cropping.
        max_samples: padded samples per batch.
        seed: of the order.
        pool_size: utterances that are sorted by length together.
    """

    def __init__(self, lengths: np.ndarray, *, max_samples: int, seed: int, pool_size: int) -> None:
        self._lengths, self._max_samples, self._seed, self._pool_size = lengths, max_samples, seed, pool_size
        self._ends: list[int] = []  # micro-batches up to and with each epoch
        self._epochs: OrderedDict[int, list[np.ndarray]] = OrderedDict()

    def epoch(self, number: int) -> list[np.ndarray]:
        """Return the batches of an epoch in order; every utterance is in exactly one."""
        if number not in self._epochs:
            self._epochs[number] = self._make_epoch(number)
            if len(self._epochs) > KEPT_EPOCHS:
                self._epochs.popitem(last=False)
        return self._epochs[number]

    def _make_epoch(self, number: int) -> list[np.ndarray]:
        order = seeded_order(len(self._lengths), self._seed, number, "utterances")
        batches: list[np.ndarray] = []
        for first in range(0, len(order), self._pool_size):
            pool = order[first : first + self._pool_size]
            pool = pool[np.argsort(self._lengths[pool], kind="stable")]
            batches += cut_sorted(pool, self._lengths, self._max_samples)
        return [batches[i] for i in seeded_order(len(batches), self._seed, number, "batches")]

    def __getitem__(self, number: int) -> BatchSpec:
        """Return micro-batch `number`, counted from 0 over all epochs."""
        while not self._ends or self._ends[-1] <= number:
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + len(self.epoch(len(self._ends))))
        epoch = int(np.searchsorted(self._ends, number, side="right"))
        begin = self._ends[epoch - 1] if epoch else 0
        return BatchSpec(number, epoch, self.epoch(epoch)[number - begin].tolist())


def sorted_batches(lengths: np.ndarray, max_samples: int) -> list[BatchSpec]:
    """Return every utterance once, the longest first, in batches of bounded padded duration."""
    order = np.argsort(lengths, kind="stable")
    batches = reversed(cut_sorted(order, lengths, max_samples))
    return [BatchSpec(number, 0, batch.tolist()) for number, batch in enumerate(batches)]
