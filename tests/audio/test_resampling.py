"""Sampling rate conversion."""

import numpy as np
import pytest

from speechssl.audio import resample
from speechssl.errors import UserError


def test_equal_rates_return_the_input() -> None:
    samples = np.ones(10, dtype=np.float32)
    assert resample(samples, 16000, 16000) is samples


def test_a_tone_stays_and_a_tone_above_nyquist_goes() -> None:
    time = np.arange(48000) / 48000
    low = np.sin(2 * np.pi * 1000 * time).astype(np.float32)
    high = np.sin(2 * np.pi * 10000 * time).astype(np.float32)
    result = resample(low + high, 48000, 16000)
    assert result.dtype == np.float32
    assert result.shape == (16000,)
    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    assert np.abs(result - expected)[500:-500].max() < 1e-3


@pytest.mark.parametrize(
    ("samples", "rates", "message"),
    [(np.zeros((10, 2)), (8000, 16000), "mono"), (np.zeros(10), (0, 16000), "positive")],
)
def test_wrong_input_is_named(samples: np.ndarray, rates: tuple[int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resample(samples, *rates)
