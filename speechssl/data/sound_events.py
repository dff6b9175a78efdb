"""Short sounds that no mouth makes, computed: tones, clicks, noise, sweeps; for the classification of audio events.

Every clip has a pitch, a rhythm, a length and a level of its own and is heard through a room and noise, as the speech
of the synthetic corpus is.
"""

import functools

import numpy as np

from speechssl.data.items import Item
from speechssl.data.room import rms, through_room, with_noise
from speechssl.data.splits import hash64

SAMPLE_RATE = 16000  # Hz
SECONDS = 1.0
CLIPS = {"train": 20, "dev": 5, "test": 10}  # of each class
SNR_DB = (-6.0, 20.0)
FADE_SECONDS = 0.005


def sound_events(seed: int) -> dict[str, list[Item]]:
    """Return the clips of each split, with the class as `label`; they are in no plain manifest."""
    return {
        split: [_clip(f"event-{name}-{split}-{number:02d}", name, seed) for name in KINDS for number in range(count)]
        for split, count in CLIPS.items()
    }


def _clip(identifier: str, kind: str, seed: int) -> Item:
    audio = functools.partial(sound_event, kind, f"{seed}/{identifier}")
    return Item(identifier, audio, "", custom={"label": kind})


def sound_event(kind: str, key: str) -> tuple[np.ndarray, int]:
    """Return one recording, mono float32 (S,), and its rate in Hz; `key` decides what varies."""
    rng = np.random.default_rng(hash64(f"event/{key}"))
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    sound = KINDS[kind](time, rng) * _envelope(time, rng)
    heard = through_room(sound, SAMPLE_RATE, rng)
    return with_noise(heard, rms(heard[sound != 0]), rng, SNR_DB), SAMPLE_RATE


def _envelope(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return 1 for most of the clip and 0 before and after, with short ramps."""
    first, last = rng.uniform(0.0, 0.25), rng.uniform(0.75, 1.0)
    return np.clip(np.minimum(time - first, last - time) / FADE_SECONDS, 0.0, 1.0)


def _sine(frequency: np.ndarray | float, time: np.ndarray) -> np.ndarray:
    """Return a sine of a frequency in Hz that may change over time."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(frequency, time.shape)) / SAMPLE_RATE)


def _pulses(time: np.ndarray, rng: np.random.Generator, per_second: tuple[float, float], duty: float) -> np.ndarray:
    """Return 1 in that share `duty` of each period and 0 in the rest."""
    phase = time * rng.uniform(*per_second) + rng.uniform()
    return (phase % 1.0 < duty).astype(float)


def _beeps(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _sine(_pitch(rng, 400, 3000), time) * _pulses(time, rng, (3, 6), 0.5)


def _bursts(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(len(time)) * _pulses(time, rng, (3, 6), 0.5)


def _chirp(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sweep = _pitch(rng, 300, 800) * 2 ** (rng.uniform(1.5, 3.0) * (time * rng.uniform(1.5, 4.0) % 1.0))
    return _sine(sweep, time)


def _clicks(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    train = _pulses(time, rng, (6, 14), 0.5)
    starts = np.diff(train, prepend=0.0).clip(0)
    decay = np.exp(-np.arange(400) / rng.uniform(10, 60)) * rng.standard_normal(400)
    return np.convolve(starts, decay)[: len(time)]


def _hum(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    lowest = _pitch(rng, 70, 200)
    return sum(rng.uniform(0.2, 1.0) / n * _sine(n * lowest, time) for n in range(1, 9))


def _siren(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    swing = np.sin(2 * np.pi * (rng.uniform(2, 5) * time + rng.uniform()))
    return _sine(_pitch(rng, 500, 1500) * 2 ** (rng.uniform(0.3, 0.6) * swing), time)


def _pitch(rng: np.random.Generator, lowest: float, highest: float) -> float:
    """Return a frequency in Hz, as likely in any octave."""
    return float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))


KINDS = {"beeps": _beeps, "bursts": _bursts, "chirp": _chirp, "clicks": _clicks, "hum": _hum, "siren": _siren}
