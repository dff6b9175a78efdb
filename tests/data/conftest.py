"""Small audio files and corpora made of noise, a different one per seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile


def _noise(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    white = np.random.default_rng(seed).normal(size=round(seconds * rate) + 15)
    return (0.25 * np.convolve(white, np.hanning(16) / 8, "valid")).astype(np.float32)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Return noise(seconds, rate, seed) -> float32 (S,): low-passed, peaking around 0.3."""
    return _noise


@pytest.fixture
def write_audio() -> Callable[..., Path]:
    """Return write(path, seconds, rate, seed, channels): any format, every channel its own noise."""

    def write(
        path: Path, seconds: float = 0.5, rate: int = 16000, seed: int = 0, channels: int = 1, **how: str
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.stack([_noise(seconds, rate, seed + 1000 * c) for c in range(channels)], axis=1)
        soundfile.write(path, samples, rate, **how)
        return path

    return write


@pytest.fixture
def audio_tree(tmp_path: Path, write_audio: Callable[..., Path]) -> Callable[..., Path]:
    """Return tree(count, name): wav files of different lengths in three folders."""

    def tree(count: int = 12, name: str = "source") -> Path:
        for i in range(count):
            write_audio(tmp_path / name / f"speaker{i % 3}" / f"{i:03d}.wav", 0.2 + 0.05 * (i % 7), seed=i)
        return tmp_path / name

    return tree


@pytest.fixture
def folder_bytes() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads every file below a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    return read
