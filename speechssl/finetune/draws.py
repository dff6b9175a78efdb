"""Which utterances a train batch is made of: batch number k is a pure function of (utterances, settings, seed, k)."""

import itertools
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from speechssl.data.sampler import seeded_order
from speechssl.nn.random import bits
from speechssl.train.seeding import derived_seed

DRAW = 0  # random stream, of seeds that serve nothing else
Place = tuple[int, int]  # an utterance, and a number of which its random numbers are a function: its epoch, or its draw


class Draws:
    """Which utterances make up batch number k.

    Batches run through endless permutations, so each is full and none of the utterances is left out; with weights
    they are drawn with replacement instead.

    Args:
        size: utterances.
        batch_size: utterances per batch.
        seed: of the order.
        weights: chances of the utterances, or None.
    """

    def __init__(self, size: int, batch_size: int, seed: int, weights: Sequence[float] | None = None) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._upto = None if weights is None else np.cumsum(weights) / np.sum(weights)  # distribution function
        self._order = lru_cache(maxsize=2)(partial(seeded_order, size, seed, purpose="fine-tuning"))

    def __getitem__(self, number: int) -> list[Place]:
        first = number * self.batch_size
        if self._upto is None:
            return [
                (int(self._order(at // self.size)[at % self.size]), at // self.size)
                for at in range(first, first + self.batch_size)
            ]
        keys = torch.tensor([derived_seed(self.seed, number)])
        drawn = (bits(keys, DRAW, self.batch_size)[0] >> 10).numpy() * 2.0**-53
        chosen = np.minimum(np.searchsorted(self._upto, drawn, side="right"), self.size - 1)
        return [(index, first + at) for at, index in enumerate(chosen.tolist())]


def class_balance(classes: Sequence[Sequence[int]]) -> list[float]:
    """Return chances that draw all classes evenly: per utterance the sum of 1 / (utterances of it) over its classes."""
    counts = np.bincount(np.fromiter(itertools.chain.from_iterable(classes), np.int64))
    return [float(sum(1.0 / counts[number] for number in own)) for own in classes]


def class_lists(labels: dict[str, list[Any]]) -> list[list[int]] | None:
    """Return the classes of every utterance of a task with classes, else None; unknown classes (-1) are left out."""
    values = labels.get("classes", labels.get("class"))
    if values is None:
        return None
    lists = [value if isinstance(value, list | tuple) else [value] for value in values]
    return [[int(number) for number in own if number >= 0] for own in lists]
