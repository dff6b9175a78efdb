"""Recordings of clean speech: levels, margins, noise, and that nothing clips."""

import numpy as np
import pytest

from speechssl.data import room

RATE = 22050


def tone(seconds: float = 0.5, silence: float = 0.3) -> np.ndarray:
    time = np.arange(int(seconds * RATE)) / RATE
    return np.pad(0.5 * np.sin(2 * np.pi * 300 * time), int(silence * RATE)).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_level_margins_and_peak(seed: int) -> None:
    recorded = room.record(tone(), RATE, np.random.default_rng(seed))
    assert recorded.dtype == np.float32
    seconds = len(recorded) / RATE
    shortest, longest = (0.5 + 2 * margin for margin in room.MARGINS_SECONDS)
    assert shortest - 0.02 < seconds < longest + 0.02
    level = 20 * np.log10(np.sqrt(np.mean(recorded.astype(np.float64) ** 2)))
    assert room.LEVELS_DB[0] - 3 < level < room.LEVELS_DB[1] + 1
    assert np.abs(recorded).max() <= room.PEAK + 1e-6


def test_a_peaky_sound_is_turned_down_and_not_clipped() -> None:
    click = np.zeros(RATE, np.float32)
    click[::3000] = 1.0
    loudest = max(np.abs(room.record(click, RATE, np.random.default_rng(s))).max() for s in range(20))
    assert loudest == pytest.approx(room.PEAK, abs=1e-6)


def test_the_noise_floor_is_between_the_two_ratios() -> None:
    for seed in range(10):
        recorded = room.record(tone(2.0), RATE, np.random.default_rng(seed)).astype(np.float64)
        before = recorded[: int(0.04 * RATE)]  # inside the shortest margin
        speech = recorded[int(0.5 * RATE) : int(1.5 * RATE)]
        ratio = 10 * np.log10((speech**2).mean() / (before**2).mean())
        assert room.SNR_DB[0] - 4 < ratio < room.SNR_DB[1] + 8  # few samples, and coloured noise is uneven


def test_the_generator_decides() -> None:
    first, same, other = (room.record(tone(), RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert len(first) != len(other) or (first != other).any()


def test_trim_keeps_the_sound_only() -> None:
    assert len(room.trim(tone(0.5, 0.3), RATE)) == pytest.approx(0.5 * RATE, abs=0.02 * RATE)


def test_trim_leaves_silence_alone() -> None:
    assert len(room.trim(np.zeros(1000, np.float32), RATE)) == 1000


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6, 7, 1000, 1024, 1025, 1500, 1537])
def test_fast_size_holds_the_signal_and_is_little_larger(length: int) -> None:
    size = room._fast_size(length)
    assert length <= size <= max(2, 1.5 * length)


def test_a_room_adds_an_echo_and_keeps_the_length() -> None:
    click = np.zeros(RATE, np.float32)
    click[1000] = 1.0
    heard = room.through_room(click, RATE, np.random.default_rng(0))
    assert len(heard) == len(click)
    assert np.abs(heard[:900]).max() < 0.1 * np.abs(heard).max()  # nothing before the sound but the filter's ringing
    assert np.abs(heard[1100:5000]).max() > 0.005 * np.abs(heard).max()


def test_noise_is_as_far_below_the_level_as_asked() -> None:
    silence = np.zeros(2 * RATE)
    silence[RATE:] = tone(1.0, 0.0)
    level = room.rms(silence[RATE:])
    for decibels in (0.0, 30.0):
        noisy = room.with_noise(silence, level, np.random.default_rng(3), (decibels, decibels)).astype(np.float64)
        both, noise = (noisy[RATE:] ** 2).mean(), (noisy[:RATE] ** 2).mean()
        assert 10 * np.log10((both - noise) / noise) == pytest.approx(decibels, abs=0.7)
