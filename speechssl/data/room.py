"""Clean speech as a microphone in a room would have it: tilted, echoing, noisy, near or far.

A mild version of what real recordings do, so that no task can be solved by one exact spectrum. All of it is
drawn from the generator that is passed in.
"""

import numpy as np

LEVELS_DB = (-32.0, -18.0)  # root mean square of the speech, relative to full scale
SNR_DB = (18.0, 40.0)
TILT_DB_PER_OCTAVE = (-1.5, 1.5)
COLOUR_DB = 3.0  # standard deviation of the response at seven points along the frequency axis
REVERBERATION_SECONDS = (0.1, 0.35)  # until 60 dB down
DIRECT_TO_REVERBERANT_DB = (6.0, 25.0)
MARGINS_SECONDS = (0.05, 0.15)  # of background noise before and after the speech
PEAK = 0.9
SILENCE_DB = -45.0  # relative to the loudest 10 ms frame
NOISE_COLOUR = (0.0, 1.0)  # exponent: the noise's power falls with 1 / frequency^exponent


def record(speech: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return speech (S,) as recorded, float32, its own silence at both ends replaced; never clipped."""
    speech = trim(speech, sample_rate)
    margins = (rng.uniform(*MARGINS_SECONDS, size=2) * sample_rate).astype(int)
    heard = through_room(np.pad(speech, tuple(margins)), sample_rate, rng)
    level = rms(heard[margins[0] : len(heard) - margins[1]])
    return with_noise(heard, level, rng)


def through_room(clean: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return samples (S,) as they arrive at a microphone: tilted and echoing, float64, of the same length."""
    tail = int(REVERBERATION_SECONDS[1] * sample_rate)
    size = _fast_size(len(clean) + tail)
    frequencies = np.fft.rfftfreq(size, 1 / sample_rate)
    response = _colour(frequencies, rng) * np.fft.rfft(_room(sample_rate, rng), size)
    return np.fft.irfft(np.fft.rfft(clean.astype(np.float64), size) * response, size)[: len(clean)]


def with_noise(
    samples: np.ndarray, level: float, rng: np.random.Generator, snr_db: tuple[float, float] = SNR_DB
) -> np.ndarray:
    """Return samples (S,) in noise at a recording's level, float32; never clipped.

    Args:
        samples: what is to be heard.
        level: its root mean square where there is something to hear.
        rng: what varies.
        snr_db: range of the distance from `level` to the noise.
    """
    noise = _noise(len(samples), rng)
    recorded = samples + noise * (level / rms(noise) * amplitude(-rng.uniform(*snr_db)))
    recorded *= amplitude(rng.uniform(*LEVELS_DB)) / level
    return (recorded * min(1.0, PEAK / np.abs(recorded).max())).astype(np.float32)


def trim(speech: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return speech (S,) from its first to its last 10 ms frame that is not silent."""
    frame = sample_rate // 100
    padded = np.pad(speech, (0, -len(speech) % frame)).reshape(-1, frame)
    loudness = np.sqrt((padded.astype(np.float64) ** 2).mean(axis=1))
    loud = np.flatnonzero(loudness > loudness.max() * amplitude(SILENCE_DB))
    return speech[loud[0] * frame : (loud[-1] + 1) * frame] if len(loud) else speech


def _colour(frequencies: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth gain per frequency (Hz): of the microphone and the way to it."""
    octaves = np.log2(np.clip(frequencies, 62.5, 8000.0) / 1000.0)
    points = np.linspace(octaves.min(), octaves.max(), 7)
    gains = rng.normal(0.0, COLOUR_DB, len(points)) + rng.uniform(*TILT_DB_PER_OCTAVE) * points
    return amplitude(np.interp(octaves, points, gains))


def _room(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return an impulse response: the direct sound and noise that dies away."""
    seconds, ratio = rng.uniform(*REVERBERATION_SECONDS), rng.uniform(*DIRECT_TO_REVERBERANT_DB)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    response = rng.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    response[: sample_rate // 500] = 0.0  # nothing comes back within 2 ms
    response *= amplitude(-ratio) / np.sqrt((response**2).sum())
    response[0] = 1.0
    return response


def _noise(length: int, rng: np.random.Generator) -> np.ndarray:
    size = _fast_size(length)
    spectrum = np.fft.rfft(rng.standard_normal(size))
    bins = np.maximum(np.arange(len(spectrum)), 1.0)
    return np.fft.irfft(spectrum * bins ** (-0.5 * rng.uniform(*NOISE_COLOUR)), size)[:length]


def _fast_size(length: int) -> int:
    """Return a power of two, or three quarters of one, that is at least `length`: sizes that FFTs like."""
    power = 1 << (length - 1).bit_length()
    return power * 3 // 4 if length <= power * 3 // 4 else power


def rms(samples: np.ndarray) -> float:
    """Return the root mean square."""
    return float(np.sqrt((samples**2).mean()))


def amplitude(decibels: float | np.ndarray) -> float | np.ndarray:
    """Return the factor that changes samples by so many decibels."""
    return 10 ** (np.asarray(decibels) / 20)
