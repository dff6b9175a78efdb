"""Snapshots: the arrays that show what an objective does to one fixed batch, and a picture of them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from speechssl.files import atomic_path
from speechssl.interfaces import PretrainTask
from speechssl.train.evaluation import evaluating
from speechssl.train.seeding import SNAPSHOT, seed_generators

PICTURES = 4  # utterances kept of a batch


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
