"""Recordings joined to a longer utterance, with pauses that sound like the recordings."""

import itertools

import numpy as np

from speechssl.audio import read_audio
from speechssl.data.splits import hash64

PAUSE_SECONDS = (0.05, 0.2)


def join_recordings(paths: tuple[str, ...], sample_rate: int, key: str) -> tuple[np.ndarray, int]:
    """Return the recordings one after the other as samples (S,), and their rate in Hz.

    Pauses hold noise as loud as the quietest 10 ms of the two recordings beside them: no recording holds
    digital silence, and in log-mel features it would be the most conspicuous sound of all. The lengths of the
    pauses and their noise depend on `key` alone.
    """
    recordings = [read_audio(path, sample_rate=sample_rate) for path in paths]
    rng = np.random.default_rng(hash64(f"pauses/{key}"))
    pieces = [recordings[0]]
    for before, after in itertools.pairwise(recordings):
        floor = min(_quietest(before, sample_rate), _quietest(after, sample_rate))
        length = round(rng.uniform(*PAUSE_SECONDS) * sample_rate)
        pieces += [np.float32(floor) * rng.standard_normal(length, dtype=np.float32), after]
    return np.concatenate(pieces), sample_rate


def _quietest(samples: np.ndarray, sample_rate: int) -> float:
    """Return the root mean square of the quietest 10 ms; of everything where that is shorter."""
    frame = min(sample_rate // 100, len(samples))
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    return float(np.sqrt((frames**2).mean(axis=1).min()))
