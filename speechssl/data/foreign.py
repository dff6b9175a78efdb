"""Cuts that only lhotse can read: mixed, augmented or generated audio, sources that are no files."""

import json
import logging
import os
import warnings
from functools import cache
from typing import Any

import numpy as np

from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import AudioError

MISMATCH_SECONDS = 0.01  # by default lhotse fills up to 0.5 s of missing audio with its mirror image, silently


def read_cut(text: str, root: str, identifier: str) -> np.ndarray:
    """Return float32 samples (S,) at 16 kHz, the mean of all channels.

    Args:
        text: JSON of the cut.
        root: folder that relative sources start from.
        identifier: of the cut, for messages.

    Raises:
        AudioError: lhotse cannot load it, or it is not finite.
    """
    from lhotse.audio.utils import AudioLoadingError, DurationMismatchError
    from lhotse.serialization import deserialize_item

    _refuse_mirrored_tails()
    description = json.loads(text)
    _prefix_sources(description, root)
    cut = deserialize_item(description)
    if cut.sampling_rate != SAMPLE_RATE:
        cut = cut.resample(SAMPLE_RATE)
    try:
        samples = cut.load_audio()
    except (AudioLoadingError, DurationMismatchError, OSError, ValueError, AssertionError) as error:
        logging.getLogger(__name__).debug("lhotse on %s: %s", identifier, error)
        raise AudioError(f"{identifier}: lhotse cannot load it ({_first_line(error)})") from error
    samples = np.atleast_2d(samples).mean(0).astype(np.float32)
    if not np.isfinite(samples).all():
        raise AudioError(f"{identifier} holds samples that are not finite")
    return samples


@cache
def _refuse_mirrored_tails() -> None:
    """Set lhotse's tolerance once per process; its warning that augmentation may stumble is known."""
    from lhotse.audio import set_audio_duration_mismatch_tolerance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        set_audio_duration_mismatch_tolerance(MISMATCH_SECONDS)


def _prefix_sources(cut: dict[str, Any], root: str) -> None:
    """Make sources absolute that lie below `root`. (Lhotse's own way forgets a mixed cut's transforms.)"""
    for track in cut.get("tracks", []):
        _prefix_sources(track["cut"], root)
    for source in (cut.get("recording") or {}).get("sources", []):
        path = os.path.join(root, str(source["source"]))
        if source["type"] == "file" and os.path.exists(path):
            source["source"] = path


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
