"""Evaluation of an objective on a dev split, and pictures of what it does; neither touches training."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from speechssl.files import atomic_path
from speechssl.interfaces import BatchStream, PretrainTask
from speechssl.train.ranks import gather
from speechssl.train.seeding import EVALUATION, SNAPSHOT, seed_generators
from speechssl.train.window import Window

PICTURES = 4  # utterances kept of a snapshot's batch


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


def save_snapshot(fabric: Fabric, task: PretrainTask, batch: Any, seed: int, path: Path) -> None:
    """Write what `task.snapshot` returns for a batch as `path`.npz, and its first utterance as a .png.

    Besides arrays (N, T, F) a snapshot may hold "lengths" (N,) frames, "hertz" (F,) centres of the channels
    and "frame_seconds" () from frame to frame, which otherwise is read from the task's upstream.
    """
    from speechssl.figures.spectrograms import draw_spectrograms

    seed_generators(fabric.device, seed, SNAPSHOT)
    with evaluating(task), fabric.autocast():
        tensors = task.snapshot(batch.to(fabric.device))
    if not tensors:
        return
    arrays = {name: _kept(tensor) for name, tensor in tensors.items()}
    upstream = getattr(task, "upstream", None)
    if "frame_seconds" not in arrays and hasattr(upstream, "downsample_rate"):
        arrays["frame_seconds"] = np.array(upstream.downsample_rate / upstream.sample_rate)
    with atomic_path(path.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
    draw_spectrograms(arrays, path.with_suffix(".png"))


def _kept(tensor: torch.Tensor) -> np.ndarray:
    """Return the first utterances of a batched tensor; statistics per channel stay whole."""
    array = tensor.detach().float() if tensor.is_floating_point() else tensor.detach()
    return (array[:PICTURES] if array.ndim >= 2 else array).cpu().numpy()
