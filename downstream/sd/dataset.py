"""Who speaks when: from the column `activity` of a manifest to zeros and ones for every frame and speaker."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

ACTIVITY = "activity"  # [[speaker, start, end], ...] in seconds from the beginning of the recording
SAMPLE_RATE = 16000

Activity = Sequence[Sequence]


def is_activity(value: Any) -> bool:
    """Tell whether a value of the column is a list of [speaker, start, end]."""
    return isinstance(value, list) and all(
        isinstance(turn, list) and len(turn) == 3 and all(isinstance(time, int | float) for time in turn[1:])
        for turn in value
    )


def speakers_of(activity: Activity) -> list[str]:
    return sorted({str(speaker) for speaker, _, _ in activity})


def frame_activity(activity: Activity, speakers: int, start: int, count: int, downsample_rate: int) -> Tensor:
    """Return float32 (count, speakers) of a window of frames, 1 where a speaker speaks.

    Speech from s to e seconds is that of frames round(s * 16000 / downsample_rate) up to, not including,
    round(e * 16000 / downsample_rate). Speakers are in the order of their names; columns beyond them are 0.

    Args:
        activity: of a whole recording.
        speakers: columns.
        start, count: first frame of the window, and frames.
        downsample_rate: samples per frame.
    """
    targets = torch.zeros(count, speakers)
    if not activity:
        return targets
    column = {name: number for number, name in enumerate(speakers_of(activity))}
    times = np.array([[begin, end] for _, begin, end in activity], np.float64)
    frames = np.clip(np.round(times * SAMPLE_RATE / downsample_rate).astype(np.int64) - start, 0, count)
    for (speaker, _, _), (begin, end) in zip(activity, frames.tolist(), strict=True):
        targets[begin:end, column[str(speaker)]] = 1.0
    return targets
