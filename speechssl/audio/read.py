"""Audio files to mono float32 samples: wav, flac, ogg, mp3 and whatever else libsndfile reads.

Nothing is patched up in silence: a file that is missing, unreadable, truncated, empty or not finite is an
AudioError with one line that says so, and long jobs skip and list it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechssl.audio.containers import check_complete
from speechssl.audio.resampling import resample
from speechssl.errors import AudioError

# Manifests round starts and durations to a few decimals: a file may end this much before an excerpt of it.
ROUNDING_SECONDS = 0.001


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says."""

    sample_rate: int  # Hz
    num_samples: int  # per channel, at `sample_rate`
    channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def audio_info(path: str | Path) -> AudioInfo:
    """Return rate, length and channels from the header, without decoding.

    Raises:
        AudioError: missing, not audio, without samples, or a truncated WAV or Ogg file (a truncated FLAC or
            MP3 shows only when it is read).
    """
    with _opened(path) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels)


def read_audio(
    path: str | Path,
    *,
    sample_rate: int = 16000,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    channel: str | int = "mean",
) -> np.ndarray:
    """Return mono float32 samples (S,), in [-1, 1] for integer formats.

    Args:
        path: the file; only the excerpt asked for is decoded.
        sample_rate: Hz of the result.
        start_seconds: where the excerpt starts.
        duration_seconds: its length; None reads to the end.
        channel: "mean" of all channels, or the index of one.

    Raises:
        AudioError: missing, unreadable or truncated file, fewer samples than asked for, NaN or infinity, no
            samples, or no such channel.
    """
    with _opened(path) as file:
        rate, channels = file.samplerate, file.channels
        if channel != "mean" and not (isinstance(channel, int) and 0 <= channel < channels):
            raise AudioError(f"{path} has channels 0..{channels - 1}, found channel={channel!r}; give one, or 'mean'")
        samples = _excerpt(file, path, start_seconds, duration_seconds)
    if channel == "mean" and channels == 1:
        channel = 0
    mono = samples.mean(axis=1) if channel == "mean" else samples[:, channel]
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds NaN or infinite samples; write it again from a sound source")
    mono = resample(np.ascontiguousarray(mono), rate, sample_rate)
    if mono.size == 0:
        raise AudioError(f"{path} holds no samples at {sample_rate} Hz between {start_seconds} s and the excerpt's end")
    return mono


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    check_complete(path)
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # bytes: a file name need not be text
            if file.frames <= 0:
                raise AudioError(f"{path} holds no samples")
            yield file
    except (soundfile.LibsndfileError, RuntimeError, OSError, TypeError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise AudioError(f"{path} cannot be read as audio ({reason}); expected wav, flac, ogg or mp3") from error


def _excerpt(
    file: soundfile.SoundFile, path: str | Path, start_seconds: float, duration_seconds: float | None
) -> np.ndarray:
    """Read (S, channels) from an open file and see that nothing is missing."""
    rate = file.samplerate
    start = round(start_seconds * rate)
    wanted = file.frames - start if duration_seconds is None else round(duration_seconds * rate)
    if not 0 <= start < file.frames or wanted <= 0:
        asked = "the end" if duration_seconds is None else f"{start_seconds + duration_seconds:.3f} s"
        raise AudioError(
            f"{path} lasts {file.frames / rate:.3f} s; nothing can be read from {start_seconds:.3f} s to {asked}"
        )
    if start:
        file.seek(start)
    samples = file.read(wanted, dtype="float32", always_2d=True)
    slack = 0 if duration_seconds is None else max(1, int(ROUNDING_SECONDS * rate))
    if len(samples) < wanted - slack:
        raise AudioError(
            f"{path} is truncated: {len(samples)} of {wanted} samples from {start_seconds:.3f} s on decode"
        )
    return samples
