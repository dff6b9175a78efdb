"""16 kHz mono PCM16 WAV shards: written once by `prepare`, memory-mapped in training.

A shard is an ordinary WAV file of many utterances end to end, so lhotse, soundfile and any player read it.
Mapping it and converting a slice costs microseconds, where a compressed file costs milliseconds.

Rounding: int16 = round_half_even(32768 x), clipped to [-32768, 32767]; back, x = int16 / 32768. Audio that
already was 16 kHz PCM16 therefore survives bit for bit.
"""

import mmap
import os
import struct
import wave
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from speechssl.audio.containers import UNKNOWN_SIZES
from speechssl.errors import AudioError
from speechssl.files import atomic_path

SAMPLE_RATE = 16000  # Hz of everything that training sees
BYTES_PER_SAMPLE = 2
SHARD_SAMPLES = 2 * 3600 * SAMPLE_RATE  # 230 MB; an utterance longer than that gets a shard of its own
OPEN_SHARDS = 1024  # maps kept per process; Linux allows about 65 000
PCM, EXTENSIBLE = 1, 0xFFFE  # WAV format tags


def resampled_length(num_samples: int, sample_rate: int) -> int:
    """Return how many 16 kHz samples `num_samples` at `sample_rate` become (half rounds up, as in soxr)."""
    return (2 * num_samples * SAMPLE_RATE + sample_rate) // (2 * sample_rate)


def to_pcm16(samples: np.ndarray) -> tuple[np.ndarray, int]:
    """Convert float samples (S,) to int16 and count the samples that had to be clipped."""
    scaled = np.rint(np.asarray(samples, np.float32) * np.float32(32768))
    num_clipped = int(np.count_nonzero((scaled > 32767) | (scaled < -32768)))
    return np.clip(scaled, -32768, 32767).astype(np.int16), num_clipped


def to_float(pcm: np.ndarray) -> np.ndarray:
    """Convert int16 samples to float32 in [-1, 1)."""
    samples = pcm.astype(np.float32)
    samples *= np.float32(1 / 32768)  # in place: fresh memory costs more than the product
    return samples


def pcm16_rms(pcm: np.ndarray) -> float:
    """Return the root mean square of int16 samples in units of full scale; the sum is exact."""
    wide = pcm.astype(np.int64)
    return float(np.sqrt(np.dot(wide, wide) / max(len(wide), 1)) / 32768)


class ShardWriter:
    """Writes int16 samples to one WAV file; the caller makes it visible by renaming it."""

    def __init__(self, path: str | Path) -> None:
        self.num_samples = 0
        self._wave = wave.open(str(path), "wb")  # noqa: SIM115 (open across calls; `close` is explicit)
        self._wave.setnchannels(1)
        self._wave.setsampwidth(BYTES_PER_SAMPLE)
        self._wave.setframerate(SAMPLE_RATE)

    def append(self, pcm: np.ndarray) -> int:
        """Add an utterance and return the sample it starts at."""
        start = self.num_samples
        self._wave.writeframesraw(np.ascontiguousarray(pcm, "<i2").tobytes())
        self.num_samples += len(pcm)
        return start

    def close(self) -> None:
        self._wave.close()  # also corrects the sizes in the header


class PartWriter:
    """The shards of one part: `00003.wav`, and `00003-1.wav` ... where its audio is long."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._num_shards = 0
        self._shard: ShardWriter | None = None
        self._files = ExitStack()
        self._name = ""

    def append(self, pcm: np.ndarray) -> tuple[str, int]:
        """Store an utterance and return the shard's name and the sample it starts at."""
        if self._shard is None or self._shard.num_samples + len(pcm) > SHARD_SAMPLES:
            self._next_shard()
        return self._name, self._shard.append(pcm)

    def _next_shard(self) -> None:
        self._files.close()
        self._name = f"{self._number:05d}{f'-{self._num_shards}' if self._num_shards else ''}.wav"
        self._num_shards += 1
        temporary = self._files.enter_context(atomic_path(self._folder / self._name))
        self._shard = ShardWriter(temporary)
        self._files.callback(self._shard.close)  # runs before the rename

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)


class WavLayout(NamedTuple):
    """Where the samples of a WAV file lie."""

    offset: int  # bytes
    num_samples: int  # per channel
    sample_rate: int  # Hz
    channels: int
    bits: int
    tag: int  # format; PCM = 1

    @property
    def mappable(self) -> bool:
        """True for 16 kHz mono PCM16, whatever program wrote it."""
        return (self.tag, self.bits, self.channels, self.sample_rate) == (PCM, 16, 1, SAMPLE_RATE)


def wav_layout(path: str | Path) -> WavLayout | None:
    """Parse a RIFF header; None where the file is not a little-endian WAV file.

    Raises:
        AudioError: missing, or shorter than its header says.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(12)
            if len(head) < 12 or head[:4] != b"RIFF" or head[8:12] != b"WAVE":
                return None
            return _find_data(file, os.fstat(file.fileno()).st_size, path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror})") from error


def _find_data(file: BinaryIO, file_size: int, path: str | Path) -> WavLayout | None:
    form: tuple[int, int, int, int] | None = None  # tag, channels, rate, bits
    while len(head := file.read(8)) == 8:
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        position = file.tell()
        if name == b"fmt " and size >= 16:
            chunk = file.read(size)
            tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", chunk[:16])
            if tag == EXTENSIBLE and len(chunk) >= 26:
                tag = struct.unpack("<H", chunk[24:26])[0]
            form = tag, channels, rate, bits
        elif name == b"data" and form is not None:
            if size in UNKNOWN_SIZES:
                return None
            if position + size > file_size:
                raise AudioError(
                    f"{path} is truncated: {file_size - position} of {size} bytes of audio; fetch it again"
                )
            tag, channels, rate, bits = form
            return WavLayout(position, size // max(channels * bits // 8, 1), rate, channels, bits, tag)
        file.seek(position + size + size % 2)
    return None


@lru_cache(maxsize=OPEN_SHARDS)
def open_shard(path: str) -> np.ndarray | None:
    """Return the samples (S,) of a 16 kHz mono PCM16 WAV file as a read-only int16 map; None for other files.

    Raises:
        AudioError: missing or truncated.
    """
    layout = wav_layout(path) if path[-4:].lower() == ".wav" else None
    if layout is None or not layout.mappable:
        return None
    if layout.num_samples == 0:
        return np.zeros(0, np.int16)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, "<i2", layout.num_samples, layout.offset)
