"""Sampling rate conversion with soxr (high quality: pass band to 0.91 of Nyquist, 20 bit)."""

import numpy as np
import soxr

from speechssl.errors import UserError


def resample(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """Return mono float32 samples (S,) at `to_rate` Hz; the input itself when the rates are equal."""
    if samples.ndim != 1:
        raise UserError(f"resample expects mono samples of shape (S,), found {samples.shape}; mix the channels first")
    if from_rate <= 0 or to_rate <= 0:
        raise UserError(f"sampling rates must be positive (Hz), found {from_rate} -> {to_rate}")
    samples = samples.astype(np.float32, copy=False)
    if from_rate == to_rate:
        return samples
    return soxr.resample(samples, from_rate, to_rate, quality="HQ")
