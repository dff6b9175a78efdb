import numpy as np
import pytest

from speechssl.audio.silence import trim_silence

RATE = 1000  # Hz; windows of 20 samples, 100 samples of sound or pause


def walk(samples: np.ndarray, window: int, hold: int, threshold: float) -> np.ndarray:
    """Trim sample by sample: hold sounds back while cutting, and pauses while copying."""
    kept, held, recent, cutting = [], [], [0.0] * window, True
    for sample in samples:
        recent = [*recent[1:], float(sample) ** 2]
        loud = np.sqrt(sum(recent) / window) > threshold
        if loud == cutting:
            held.append(sample)
            if len(held) < hold:
                continue
            if cutting:
                kept += held
            else:
                recent = [0.0] * window
            held, cutting = [], not cutting
        elif cutting:
            held = []
        else:
            kept += [*held, sample]
            held = []
    return np.array([*kept, *([] if cutting else held)], samples.dtype)


@pytest.mark.parametrize("seed", range(30))
def test_equals_a_walk_from_sample_to_sample(seed: int) -> None:
    generator = np.random.default_rng(seed)
    levels = np.repeat(generator.choice([0.0, 0.0009, 0.0011, 0.3], 40), generator.integers(1, 200, 40))
    samples = (levels * generator.standard_normal(len(levels))).astype(np.float32)
    assert np.array_equal(trim_silence(samples, RATE), walk(samples, 20, 100, 0.001))


def test_what_is_cut_and_what_stays() -> None:
    tone = np.full(300, 0.5, np.float32)
    click, short, long = np.full(30, 0.5, np.float32), np.zeros(60, np.float32), np.zeros(400, np.float32)
    trimmed = trim_silence(np.concatenate([long, tone, short, tone, long, click, long, tone, long]), RATE)
    # The level stays up for 20 samples, less one that is too little for the threshold, after each tone.
    assert len(trimmed) == 300 + 60 + 300 + 19 + 300 + 19
    assert (trimmed[:300] == 0.5).all()
    assert (trimmed[300:360] == 0).all()


@pytest.mark.parametrize("samples", [np.zeros(0, np.float32), np.zeros(5000, np.float32), np.ones(99, np.float32)])
def test_nothing_is_left_of_what_has_no_sound(samples: np.ndarray) -> None:
    assert trim_silence(samples, RATE).shape == (0,)


def test_a_recording_without_pauses_stays() -> None:
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert np.array_equal(trim_silence(samples, 16000), samples)
    assert len(trim_silence(samples * 0.0012, 16000, threshold=0.00141)) == 0
