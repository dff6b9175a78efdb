"""Recordings joined with pauses."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.data.joined import PAUSE_SECONDS, join_recordings

RATE = 8000


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    rng = np.random.default_rng(0)
    paths = []
    for number, (level, length) in enumerate([(0.1, 2000), (0.2, 1500), (0.05, 30)]):
        samples = level * np.sin(np.arange(length) / 3) + 1e-3 * rng.standard_normal(length)
        samples[:200] *= 0.01  # a quiet beginning, which sets the level of the pauses
        soundfile.write(tmp_path / f"{number}.wav", samples, RATE)
        paths.append(str(tmp_path / f"{number}.wav"))
    return tuple(paths)


def test_all_recordings_in_order_with_pauses_between(files: tuple[str, ...]) -> None:
    joined, rate = join_recordings(files, RATE, "a")
    assert rate == RATE
    assert joined.dtype == np.float32
    takes = [soundfile.read(path, dtype="float32")[0] for path in files]
    np.testing.assert_array_equal(joined[:2000], takes[0])
    np.testing.assert_array_equal(joined[-30:], takes[2])
    pauses = len(joined) - sum(map(len, takes))
    assert 2 * PAUSE_SECONDS[0] * RATE - 2 <= pauses <= 2 * PAUSE_SECONDS[1] * RATE + 2


def test_pauses_are_as_quiet_as_the_recordings_and_not_silent(files: tuple[str, ...]) -> None:
    joined, _ = join_recordings(files[:2], RATE, "a")
    pause = joined[2000:-1500].astype(np.float64)
    quiet = min(np.sqrt(np.mean(soundfile.read(path)[0][:80] ** 2)) for path in files[:2])
    assert np.sqrt(np.mean(pause**2)) == pytest.approx(quiet, rel=0.3)


def test_the_key_decides_and_nothing_else(files: tuple[str, ...]) -> None:
    first, same, other = (join_recordings(files, RATE, key)[0] for key in ("a", "a", "b"))
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(other) or (first != other).any()
