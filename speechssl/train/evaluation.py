"""Evaluation of an objective on a dev split, without touching training."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from speechssl.interfaces import BatchStream, PretrainTask
from speechssl.train.ranks import gather
from speechssl.train.seeding import EVALUATION, seed_generators
from speechssl.train.window import Window


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Run the block in eval mode without gradients, then give every submodule its own mode back."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for child, mode in modes:
            child.training = mode


def evaluate(
    fabric: Fabric, task: PretrainTask, batches: BatchStream, seed: int, note: Callable[[Any], None]
) -> dict[str, float | None]:
    """Return the task's scalars averaged by element over a split, with the same random numbers every time.

    Args:
        fabric: device, precision and ranks; each rank takes every world_size-th batch.
        task: the objective.
        batches: the split, read once.
        seed: of dropout-like randomness, together with the number of the batch.
        note: called with every batch (counts unreadable utterances).
    """
    window = Window(fabric.device)
    one = torch.ones((), dtype=torch.float64, device=fabric.device)
    mine = itertools.islice(enumerate(batches.once()), fabric.global_rank, None, fabric.world_size)
    with evaluating(task):
        for number, batch in mine:
            note(batch)
            if batch.empty:
                continue
            seed_generators(fabric.device, seed, EVALUATION, number)
            with fabric.autocast():
                values = dict(task(batch.to(fabric.device)))
            window.add(
                {"loss": values.pop("loss"), **{k: v for k, v in values.items() if k != "weight"}},
                values.get("weight", one),
            )
    return Window(fabric.device).merge(gather(fabric, window.state())).means()
