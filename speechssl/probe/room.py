"""Whether the frames that tasks need fit on the disk, found out before hours of encoding."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.errors import UserError
from speechssl.probe.cache import DTYPES, FeatureCache
from speechssl.probe.keys import utterance_keys

SPARE = 0.05  # of the disk stays free


def check(work: Iterable[Any]) -> None:
    """Raise UserError where the frames that are still to be encoded for one upstream do not fit.

    Args:
        work: `speechssl.probe.modes.Trained`, each a task on a corpus; utterances that several share count once.
    """
    missing: dict[Path, dict[str, int]] = {}  # folder -> utterance -> bytes
    caches: dict[Path, FeatureCache] = {}
    for trained in work:
        cache = getattr(trained, "cache", None)
        if trained.task.pooled or not isinstance(cache, FeatureCache):
            continue
        caches[cache.folder] = cache
        missing.setdefault(cache.folder, {}).update(_missing(trained, cache))
    needed = sum(sum(sizes.values()) for sizes in missing.values())
    if not needed:
        return
    folder = next(iter(caches.values())).folder
    free, total = _disk(folder)
    if needed > free - SPARE * total:
        raise UserError(
            f"{needed / 1e9:.1f} GB of frames are still to be kept in {folder.parent}, where {free / 1e9:.1f} GB are "
            "free; put them elsewhere (cache=FOLDER), keep them smaller (probe.frame_dtype=int8), or compute them anew "
            "for every batch (probe.online=true)"
        )


def _missing(trained: Any, cache: FeatureCache) -> dict[str, int]:
    """Return {utterance: bytes of its frames} of those that are not there yet."""
    upstream, found = cache.upstream, {}
    width = (upstream.num_layers + 1) * upstream.hidden_size * np.dtype(DTYPES[cache.frame_dtype]).itemsize
    for split in trained.task.splits:
        cuts = trained.task.dataset(split).cuts
        keys = utterance_keys(trained.corpus, cuts)
        sizes = (cuts.num_samples // upstream.downsample_rate * width).tolist()
        found |= {key: size for key, size in zip(keys, sizes, strict=True) if not cache.has_frames(key)}
    return found


def _disk(folder: Path) -> tuple[int, int]:
    """Return free and total bytes of the disk that a folder lies, or will lie, on."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    usage = shutil.disk_usage(there)
    return usage.free, usage.total
