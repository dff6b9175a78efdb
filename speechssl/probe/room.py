"""Whether the frames that a task needs fit on the disk, found out before hours of encoding."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.errors import UserError
from speechssl.interfaces import LayerwiseTask
from speechssl.probe.cache import DTYPES, FeatureCache
from speechssl.probe.keys import utterance_keys
from speechssl.probe.plan import TaskPlan

SPARE = 0.05  # of the disk stays free


def check(trained: Any, plan: TaskPlan) -> None:
    """Raise UserError where the frames that are still to be encoded do not fit.

    Args:
        trained: a `speechssl.probe.modes.Trained`.
        plan: its task.
    """
    cache = getattr(trained, "cache", None)
    if plan.pooled or not isinstance(cache, FeatureCache):
        return
    task, missing = trained.task, 0
    for split in task.splits:
        cuts = task.dataset(split).cuts
        keys = utterance_keys(trained.corpus, cuts)
        new = np.array([not cache.has_frames(key) for key in keys], bool)
        missing += int(cuts.num_samples[new].sum())
    upstream = cache.upstream
    width = (upstream.num_layers + 1) * upstream.hidden_size * np.dtype(DTYPES[cache.frame_dtype]).itemsize
    needed = missing / upstream.downsample_rate * width
    free, total = _disk(cache.folder)
    if needed > free - SPARE * total:
        instead = "" if isinstance(task, LayerwiseTask) else ", or computed anew for every batch (probe.online=true)"
        raise UserError(
            f"task {plan.name} needs {needed / 1e9:.1f} GB of frames in {cache.folder.parent}, where {free / 1e9:.1f} "
            f"GB are free; put them elsewhere (cache=FOLDER), keep them smaller (probe.frame_dtype){instead}"
        )


def _disk(folder: Path) -> tuple[int, int]:
    """Return free and total bytes of the disk that a folder lies, or will lie, on."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    usage = shutil.disk_usage(there)
    return usage.free, usage.total
