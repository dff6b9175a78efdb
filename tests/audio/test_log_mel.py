"""LogMel against s3prl's golden features, a plain float64 reference, and its own promises about padding."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.audio import LogMel, read_audio
from speechssl.errors import UserError
from speechssl.testing import speech_like

FIXTURE = Path(__file__).parents[1] / "fixtures" / "tera_features.pt"


def golden() -> tuple[dict, Tensor]:
    tensors = torch.load(FIXTURE, weights_only=True)
    waveforms = [tensors[f"wav{i}"] for i in range(3)]
    return tensors, torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)


def reference(waveform: Tensor, loudness_db: float | None = -25.0) -> np.ndarray:
    """Compute the unnormalised features of one utterance in float64, frame by frame."""
    x = waveform.double().numpy()
    if loudness_db is not None:
        x = x * 10 ** (loudness_db / 20) / (math.sqrt(np.mean(x**2)) + 1e-10)
    x = np.concatenate([x[200:0:-1], x, x[-2:-202:-1]])
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    edges = [700 * (10 ** (m / 2595) - 1) for m in np.linspace(0, 2595 * math.log10(1 + 8000 / 700), 82)]
    bank = np.zeros((201, 80))
    for m in range(80):
        for k in range(201):
            rising = (k * 40 - edges[m]) / (edges[m + 1] - edges[m])
            falling = (edges[m + 2] - k * 40) / (edges[m + 2] - edges[m + 1])
            bank[k, m] = max(0.0, min(rising, falling))
    frames = [x[t : t + 400] * taper for t in range(0, len(x) - 399, 160)]
    return np.log(np.stack([np.abs(np.fft.rfft(frame)) ** 2 @ bank for frame in frames]) + 1e-10)


def test_golden_features_of_s3prl() -> None:
    tensors, waveforms = golden()
    frontend = LogMel(batch_padded=True)
    torch.testing.assert_close(frontend.bank, tensors["mel_fb"], rtol=0, atol=1e-6)
    assert torch.equal(frontend.window, tensors["window"])
    features, frames = frontend(waveforms, tensors["wav_lengths"])
    assert torch.equal(frames, tensors["wav_feat_lengths"])
    torch.testing.assert_close(features, tensors["wav_feats"], rtol=0, atol=1e-4)


def test_whole_golden_file() -> None:
    if "SPEECHSSL_GOLDEN" not in os.environ:
        pytest.skip("SPEECHSSL_GOLDEN (folder with tera_tiny.pt) is not set")
    whole = torch.load(Path(os.environ["SPEECHSSL_GOLDEN"]) / "tera_tiny.pt", weights_only=True)
    pruned, _ = golden()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in pruned.items())


def test_the_longest_utterance_is_the_same_without_batch_padding() -> None:
    tensors, waveforms = golden()
    features, frames = LogMel()(waveforms, tensors["wav_lengths"])
    assert frames.tolist() == [101, 70, 151]
    torch.testing.assert_close(features[2], tensors["wav_feats"][2], rtol=0, atol=1e-4)
    # The others' ends are reflected at their own last sample, which is the point.
    assert (features[1, 69] - tensors["wav_feats"][1, 69]).abs().max() > 0.1


def float32_twin(waveform: Tensor, bank: Tensor, loudness_db: float | None) -> Tensor:
    """Compute the same with torch.stft, as s3prl does: slower, and the yardstick for rounding errors."""
    if loudness_db is not None:
        waveform = waveform * 10 ** (loudness_db / 20) / (waveform.square().mean().sqrt() + 1e-10)
    spectrum = torch.stft(waveform, 400, 160, window=torch.hann_window(400), return_complex=True)
    return (spectrum.abs().square().T @ bank + 1e-10).log()


@pytest.mark.parametrize("loudness_db", [-25.0, None])
def test_error_to_float64_is_at_most_twice_that_of_the_plain_float32_form(loudness_db: float | None) -> None:
    waveforms = speech_like([8000, 5431, 201])
    if "SPEECHSSL_DATA" in os.environ:
        files = sorted(Path(os.environ["SPEECHSSL_DATA"]).rglob("*.wav"))[11::1000]
        waveforms += [torch.from_numpy(read_audio(path)) for path in files]
    frontend = LogMel(loudness_db=loudness_db, normalization="none")
    lengths = torch.tensor([len(w) for w in waveforms])
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    features, frames = frontend(padded, lengths)
    ours, theirs = 0.0, 0.0
    for row, waveform in enumerate(waveforms):
        exact = torch.from_numpy(reference(waveform, loudness_db))
        ours = max(ours, (features[row, : frames[row]] - exact).abs().max().item())
        theirs = max(theirs, (float32_twin(waveform, frontend.bank, loudness_db) - exact).abs().max().item())
    assert ours <= 2 * theirs


def test_a_crop_keeps_the_level_of_its_utterance() -> None:
    whole = speech_like([16000])[0]
    quiet = whole[:8000] * 0.1
    whole = torch.cat([quiet, whole[8000:]])
    rms = whole.square().mean().sqrt()[None]
    frontend = LogMel(normalization="none")
    every, _ = frontend(whole[None], torch.tensor([16000]))
    crop, _ = frontend(whole[None, :8000], torch.tensor([8000]), rms)
    torch.testing.assert_close(crop[:, 2:48], every[:, 2:48], rtol=0, atol=1e-4)
    louder, _ = frontend(whole[None, :8000], torch.tensor([8000]))
    assert (louder - crop).mean() > 1
    with pytest.raises(UserError, match="rms of shape"):
        frontend(whole[None], torch.tensor([16000]), torch.ones(2))


def test_loudness_is_the_only_effect_of_a_gain() -> None:
    waveform, length = speech_like([16000])[0][None], torch.tensor([16000])
    frontend = LogMel(normalization="none")
    torch.testing.assert_close(frontend(0.01 * waveform, length), frontend(waveform, length), rtol=0, atol=1e-4)
    off = LogMel(normalization="none", loudness_db=None)
    assert (off(0.01 * waveform, length)[0] - off(waveform, length)[0]).mean() < -8


def test_digital_silence_is_finite_and_zero_after_normalisation() -> None:
    features, _ = LogMel()(torch.zeros(1, 16000), torch.tensor([16000]))
    assert not features.any()


@pytest.mark.parametrize("samples", [201, 202, 320, 399])
def test_the_shortest_waveforms(samples: int) -> None:
    features, frames = LogMel()(speech_like([samples])[0][None], torch.tensor([samples]))
    assert frames.tolist() == [1 + samples // 160]
    assert features.isfinite().all()
