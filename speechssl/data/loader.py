"""Batches for training and for extraction, read ahead by worker processes.

Batches are addressed by number in the main process and only read in the workers, so neither the number of
workers nor what they have prefetched can change what training sees.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from speechssl.data.cuts import CutTable
from speechssl.data.dataset import BatchDataset
from speechssl.data.sampler import BatchPlan, sorted_batches
from speechssl.data.shards import SAMPLE_RATE
from speechssl.data.worker import start_worker
from speechssl.errors import UserError
from speechssl.interfaces import Batch

logger = logging.getLogger(__name__)

POOL_BATCHES = 4


class TrainStream:
    """An endless, deterministic sequence of micro-batches (`speechssl.interfaces.BatchStream`).

    Args:
        table: the utterances.
        max_seconds: padded audio per micro-batch; a longer utterance is a batch of its own.
        seed: of order, crops and utterance seeds.
        crop_seconds: longer utterances are cut to this at a random place; None keeps them whole.
        num_workers: processes that read ahead; 0 reads in this one.
        pool_size: utterances that are sorted by length together; raised to about four batches, so that
            batches of many short utterances are full.
        min_seconds: shorter utterances are left out.
        crop_multiple: samples; crops start at multiples of it.
    """

    def __init__(
        self,
        table: CutTable,
        *,
        max_seconds: float,
        seed: int,
        crop_seconds: float | None,
        num_workers: int,
        pool_size: int = 1000,
        min_seconds: float = 0.1,
        crop_multiple: int = 1,
    ) -> None:
        table = _long_enough(table, min_seconds)
        crop_samples = None if crop_seconds is None else _samples(crop_seconds, "crop_seconds")
        lengths = table.num_samples if crop_samples is None else np.minimum(table.num_samples, crop_samples)
        max_samples = _samples(max_seconds, "max_seconds")
        pool_size = max(pool_size, POOL_BATCHES * max_samples // int(np.median(lengths)))
        self._plan = BatchPlan(lengths, max_samples=max_samples, seed=seed, pool_size=pool_size)
        dataset = BatchDataset(table, seed, crop_samples, crop_multiple)
        self._endless = Reader(dataset, num_workers)
        self._single = Reader(dataset, num_workers)
        self._once = sorted_batches(lengths, max_samples)

    def iterate(self, start: int, step: int = 1) -> Iterator[Batch]:
        """Yield micro-batches number `start`, `start + step`, ... without end."""
        # `map` holds the plan only. Holding this stream would make a cycle of garbage, in which Python closes
        # the workers' queues before the loader can end the workers: five seconds of waiting for each.
        return self._endless.read(map(self._plan.__getitem__, itertools.count(start, step)))

    def once(self) -> Iterator[Batch]:
        """Yield every utterance exactly once, the longest first, with the crops and seeds of epoch 0."""
        return self._single.read(self._once)


def utterance_batches(table: CutTable, *, max_seconds: float, num_workers: int = 0) -> Iterator[Batch]:
    """Yield every utterance once, whole, longest first; unreadable ones appear only in `Batch.unreadable`."""
    specs = sorted_batches(table.num_samples, _samples(max_seconds, "max_seconds"))
    return Reader(BatchDataset(table, seed=0), num_workers).read(specs)


def _samples(seconds: float, name: str) -> int:
    if seconds <= 0:
        raise UserError(f"{name} must be positive, found {seconds}")
    return round(seconds * SAMPLE_RATE)


def _long_enough(table: CutTable, min_seconds: float) -> CutTable:
    kept = np.flatnonzero(table.num_samples >= min_seconds * SAMPLE_RATE)
    if len(kept) == 0:
        raise UserError(f"none of the {len(table)} utterances lasts {min_seconds} s; expected longer audio to train on")
    if len(kept) == len(table):
        return table
    logger.warning("%d utterances shorter than %s s are left out", len(table) - len(kept), min_seconds)
    return table.select(kept)


class _Specs:
    """The index sampler of a DataLoader; what it yields is set before each pass."""

    def __init__(self) -> None:
        self.specs: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.specs)


class Reader:
    """A data loader that is made at the first pass, and whose workers live on between passes."""

    def __init__(self, dataset: torch.utils.data.Dataset, num_workers: int) -> None:
        self._dataset, self._num_workers, self._specs = dataset, num_workers, _Specs()
        self._loader: torch.utils.data.DataLoader | None = None

    def read(self, specs: Iterable[Any]) -> Iterator[Batch]:
        """Yield the batches of `specs` in order. A pass that was begun before ends here."""
        if self._loader is None:
            self._loader = torch.utils.data.DataLoader(
                self._dataset,
                sampler=self._specs,
                batch_size=None,  # a sample of this dataset is a batch
                num_workers=self._num_workers,
                persistent_workers=self._num_workers > 0,
                pin_memory=torch.cuda.is_available(),
                worker_init_fn=start_worker,
                generator=torch.Generator(),  # else every pass would advance the global generator
            )
        self._specs.specs = specs
        return iter(self._loader)
