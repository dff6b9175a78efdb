"""A recording that is named and not yet read: a file, or an utterance of a manifest."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl.audio import audio_info, read_audio
from speechssl.data.cuts import CutTable
from speechssl.data.shards import SAMPLE_RATE

MARGIN_SECONDS = 0.05  # read on both sides of a resampled excerpt, so that it equals the same part of the whole


@dataclass(frozen=True)
class AudioFile:
    """A file by its name."""

    name: str

    def seconds(self) -> float:
        """Return how long it is, as its header says."""
        return audio_info(self.name).seconds

    def read(self, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
        """Return float32 samples (S,) at 16 kHz, the mean of all channels: all, or an excerpt in seconds."""
        if seconds is None:
            return read_audio(self.name)
        rate = audio_info(self.name).sample_rate
        if rate == SAMPLE_RATE:
            return read_audio(self.name, start_seconds=start, duration_seconds=seconds)
        period = 1.0 / math.gcd(rate, SAMPLE_RATE)  # seconds between moments at which both rates have a sample
        first = max(0.0, math.floor((start - MARGIN_SECONDS) / period) * period)
        total = audio_info(self.name).seconds
        length = min(start + seconds + MARGIN_SECONDS, total) - first
        samples = read_audio(self.name, start_seconds=first, duration_seconds=length)
        skipped = round((start - first) * SAMPLE_RATE)
        return samples[skipped : skipped + round(seconds * SAMPLE_RATE)]


@dataclass(frozen=True)
class Utterance:
    """A row of a manifest."""

    table: CutTable
    row: int

    @property
    def name(self) -> str:
        return self.table.ids[self.row]

    def seconds(self) -> float:
        return int(self.table.num_samples[self.row]) / SAMPLE_RATE

    def read(self, start: float = 0.0, seconds: float | None = None) -> np.ndarray:
        if seconds is None:
            return self.table.read(self.row)
        first, total = round(start * SAMPLE_RATE), int(self.table.num_samples[self.row])
        return self.table.read(self.row, first, min(round(seconds * SAMPLE_RATE), total - first))


Recording = AudioFile | Utterance


def called(recordings: Sequence[Recording]) -> list[str]:
    """Return what people call recordings: the id of an utterance, the name of a file without folder and suffix.

    Files of one such name in several places are told apart by their whole paths.
    """
    files = {one.name for one in recordings if isinstance(one, AudioFile)}
    uses = Counter(Path(name).stem for name in files)
    return [
        Path(one.name).stem if isinstance(one, AudioFile) and uses[Path(one.name).stem] == 1 else one.name
        for one in recordings
    ]
