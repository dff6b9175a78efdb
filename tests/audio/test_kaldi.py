"""KaldiFbank against a plain float64 reference, torchaudio, kaldi-native-fbank and BEATs' golden values.

Tolerances: where a bin holds little energy, the rounding of a float32 spectrum is large beside it, and two
right computations differ by some 1e-3 in the logarithm. We keep torchaudio's order of operations, so 1e-4
holds there; against other implementations 5e-3; the distance to float64 may be at most twice torchaudio's.
"""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.audio import KaldiFbank, read_audio
from speechssl.testing import speech_like

FIXTURE = Path(__file__).parents[1] / "fixtures" / "beats_fbank.pt"
SAME_ORDER, BETWEEN_FLOAT32 = 1e-4, 5e-3

# Our settings, and torchaudio's for the same features.
RECIPES = {
    "tera": ({}, {"num_mel_bins": 80}),
    "ssast": (
        {"num_mels": 128, "window": "hann", "center_waveform": True},
        {"num_mel_bins": 128, "window_type": "hanning", "htk_compat": True, "use_energy": False},
    ),
    "beats": ({"num_mels": 128, "scale": 2**15}, {"num_mel_bins": 128}),
    "hamming": ({"window": "hamming"}, {"num_mel_bins": 80, "window_type": "hamming"}),
    "blackman": ({"window": "blackman"}, {"num_mel_bins": 80, "window_type": "blackman"}),
    "plain": (
        {
            "num_mels": 40,
            "window": "rectangular",
            "preemphasis": 0,
            "remove_dc": False,
            "low_freq": 60,
            "high_freq": -400,
        },
        {
            "num_mel_bins": 40,
            "window_type": "rectangular",
            "preemphasis_coefficient": 0.0,
            "remove_dc_offset": False,
            "low_freq": 60.0,
            "high_freq": -400.0,
        },
    ),
}


def conditioned(waveform: Tensor, settings: dict) -> Tensor:
    """Return what SSAST's and BEATs' own code does to a waveform before the filter bank."""
    waveform = waveform - waveform.mean() if settings.get("center_waveform") else waveform
    return waveform * settings.get("scale", 1)


def torchaudio_fbank(waveform: Tensor, recipe: str) -> Tensor:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    settings, theirs = RECIPES[recipe]
    return kaldi.fbank(conditioned(waveform, settings)[None], sample_frequency=16000.0, **theirs)


def reference(
    waveform: Tensor,
    num_mels: int = 80,
    window: str = "povey",
    scale: float = 1,
    preemphasis: float = 0.97,
    remove_dc: bool = True,
    center_waveform: bool = False,
    low_freq: float = 20,
    high_freq: float = 0,
) -> np.ndarray:
    """Compute Kaldi's filter bank in float64, frame by frame and filter by filter, slowly and plainly."""
    x = waveform.double().numpy() * scale
    x = x - x.mean() if center_waveform else x
    ramp = np.cos(2 * np.pi * np.arange(400) / 399)
    taper = {
        "povey": (0.5 - 0.5 * ramp) ** 0.85,
        "hann": 0.5 - 0.5 * ramp,
        "hamming": 0.54 - 0.46 * ramp,
        "blackman": 0.42 - 0.5 * ramp + 0.08 * np.cos(4 * np.pi * np.arange(400) / 399),
        "rectangular": np.ones(400),
    }[window]
    high = high_freq if high_freq > 0 else 8000 + high_freq
    low_mel, high_mel = (1127 * math.log(1 + f / 700) for f in (low_freq, high))
    step = (high_mel - low_mel) / (num_mels + 1)
    bank = np.zeros((257, num_mels))
    for m in range(num_mels):
        left, centre, right = (low_mel + (m + k) * step for k in range(3))
        for k in range(256):
            mel = 1127 * math.log(1 + k * 16000 / 512 / 700)
            bank[k, m] = max(0.0, min((mel - left) / (centre - left), (right - mel) / (right - centre)))
    rows = []
    for start in range(0, len(x) - 399, 160):
        frame = x[start : start + 400]
        frame = frame - frame.mean() if remove_dc else frame
        emphasised = frame - preemphasis * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(emphasised * taper, 512)) ** 2
        rows.append(np.log(np.maximum(power @ bank, 2.0**-23)))
    return np.array(rows)


def recordings() -> list[Tensor]:
    """Return real recordings where there are some, synthetic speech otherwise; half a second each."""
    if "SPEECHSSL_DATA" not in os.environ:
        return [w[:6000] for w in speech_like([6000, 6000], seed=3)]
    root = Path(os.environ["SPEECHSSL_DATA"])
    files = sorted(root.rglob("*.wav"))[7::1500] + sorted(root.rglob("*.ogg"))[5::200]
    return [torch.from_numpy(read_audio(path)[:6000]) for path in files]


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_values_equal_torchaudio(recipe: str) -> None:
    waveforms = speech_like([16000, 7000])
    lengths = torch.tensor([16000, 7000])
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    features, frames = KaldiFbank(**RECIPES[recipe][0])(padded, lengths)
    assert frames.tolist() == [98, 42]
    for row, waveform in enumerate(waveforms):
        expected = torchaudio_fbank(waveform, recipe)
        torch.testing.assert_close(features[row, : frames[row]], expected, rtol=0, atol=SAME_ORDER)


@pytest.mark.parametrize("recipe", ["tera", "ssast", "beats", "plain"])
def test_error_to_float64_is_at_most_twice_torchaudios(recipe: str) -> None:
    settings = RECIPES[recipe][0]
    ours, theirs = 0.0, 0.0
    for waveform in recordings():
        exact = torch.from_numpy(reference(waveform, **settings))
        features, _ = KaldiFbank(**settings)(waveform[None], torch.tensor([len(waveform)]))
        ours = max(ours, (features[0] - exact).abs().max().item())
        theirs = max(theirs, (torchaudio_fbank(waveform, recipe) - exact).abs().max().item())
    assert ours <= 2 * theirs


@pytest.mark.parametrize(
    ("num_mels", "window"), [(80, "povey"), (64, "hann")]
)  # its newest version refuses empty filters
def test_values_equal_kaldi_native_fbank(num_mels: int, window: str) -> None:
    native = pytest.importorskip("kaldi_native_fbank")
    waveform = speech_like([16000], seed=2)[0]
    options = native.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.window_type = "hanning" if window == "hann" else window
    options.mel_opts.num_bins = num_mels
    fbank = native.OnlineFbank(options)
    fbank.accept_waveform(16000, waveform.tolist())
    fbank.input_finished()
    expected = torch.tensor(np.stack([fbank.get_frame(i) for i in range(fbank.num_frames_ready)]))
    features, _ = KaldiFbank(num_mels, window=window)(waveform[None], torch.tensor([16000]))
    torch.testing.assert_close(features[0], expected, rtol=0, atol=BETWEEN_FLOAT32)


def test_beats_golden_values() -> None:
    golden = torch.load(FIXTURE, weights_only=True)
    numbers = {"mean": golden["mean"], "std": golden["std"], "std_factor": 2}
    frontend = KaldiFbank(128, scale=2**15, normalization="fixed", **numbers)
    waveforms = golden["waveforms"]
    raw, frames = frontend.unnormalized(waveforms, torch.full((3,), waveforms.shape[1]))
    torch.testing.assert_close(raw, golden["raw"], rtol=0, atol=2e-5)
    normalized = frontend.normalize(raw, frames)[0]
    torch.testing.assert_close(normalized, golden["normalized_first"], rtol=0, atol=5e-6)
    silence, _ = frontend.unnormalized(torch.zeros(1, 2800), torch.tensor([2800]))
    torch.testing.assert_close(silence[0], golden["silence_2800_raw"], rtol=0, atol=1e-5)
    assert silence[0, 0, 0].item() == pytest.approx(math.log(2**-23))


def test_ssast_does_not_see_a_constant_offset() -> None:
    frontend = KaldiFbank(128, window="hann", center_waveform=True)
    waveform, length = speech_like([16000])[0][None], torch.tensor([16000])
    moved = frontend(waveform + 0.2, length)[0]
    torch.testing.assert_close(moved, frontend(waveform, length)[0], rtol=0, atol=1e-3)


def test_fixed_normalisation_divides_by_twice_the_std() -> None:
    waveform, length = speech_like([16000])[0][None], torch.tensor([16000])
    raw, _ = KaldiFbank(128)(waveform, length)
    mean, std = -4.2677393, 4.5689974
    fixed = KaldiFbank(128, normalization="fixed", mean=mean, std=std, std_factor=2)(waveform, length)[0]
    torch.testing.assert_close(fixed, (raw - mean) / (2 * std), rtol=0, atol=1e-6)


def test_240_dimensions_with_deltas_and_normalisation() -> None:
    functional = pytest.importorskip("torchaudio.functional")
    waveforms = speech_like([16000, 9000])
    padded = torch.nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    frontend = KaldiFbank(deltas=2, normalization="utterance")
    assert frontend.num_features == 240
    features, frames = frontend(padded, torch.tensor([16000, 9000]))
    for row, waveform in enumerate(waveforms):
        static = torchaudio_fbank(waveform, "tera").T
        first = functional.compute_deltas(static, win_length=5)
        stacked = torch.cat([static, first, functional.compute_deltas(first, win_length=5)]).T
        expected = (stacked - stacked.mean(0)) / (stacked.std(0) + 1e-10)
        torch.testing.assert_close(features[row, : frames[row]], expected, rtol=0, atol=SAME_ORDER)
        assert not features[row, frames[row] :].any()
