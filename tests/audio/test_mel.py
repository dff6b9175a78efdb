"""Filter banks and windows against torchaudio, librosa and hand-computed cases."""

import math

import pytest
import torch

from speechssl.audio.mel import WINDOWS, analysis_window, band_ranges, htk_bank, kaldi_bank, mel_centres
from speechssl.errors import UserError


@pytest.mark.parametrize(("num_mels", "low", "high"), [(80, 20.0, 0.0), (128, 20.0, 0.0), (40, 60.0, -400.0)])
def test_kaldi_bank_equals_torchaudio(num_mels: int, low: float, high: float) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    expected, _ = kaldi.get_mel_banks(num_mels, 512, 16000.0, low, high, 100.0, -500.0, 1.0)
    bank = kaldi_bank(512, num_mels, 16000, low, high)
    assert bank.shape == (257, num_mels)
    assert torch.equal(bank[:-1], expected.T)
    assert not bank[-1].any()


@pytest.mark.parametrize("num_mels", [23, 80])
def test_htk_bank_equals_torchaudio(num_mels: int) -> None:
    functional = pytest.importorskip("torchaudio.functional")
    bank = htk_bank(201, num_mels, 16000, 0.0, 0.0)
    theirs = functional.melscale_fbanks(201, 0.0, 8000.0, num_mels, 16000)
    torch.testing.assert_close(bank, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["htk", "kaldi"])
def test_banks_equal_a_float64_computation(kind: str) -> None:
    hertz = torch.linspace(0, 8000, 257, dtype=torch.float64)
    low = 20.0 if kind == "kaldi" else 0.0
    mels = torch.linspace(1127 * math.log1p(low / 700), 1127 * math.log1p(8000 / 700), 82, dtype=torch.float64)
    if kind == "kaldi":
        bins, edges, bank = 1127 * torch.log1p(hertz / 700), mels, kaldi_bank(512, 80, 16000, low, 0.0)
    else:
        bins, edges, bank = hertz, 700 * torch.expm1(mels / 1127), htk_bank(257, 80, 16000, low, 0.0)
    for m, (left, centre, right) in enumerate(edges.unfold(0, 3, 1)):
        rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
        expected = torch.minimum(rising, falling).clamp(min=0).float()
        torch.testing.assert_close(bank[:256, m], expected[:256], rtol=0, atol=3e-5)


def test_filter_3_of_128_is_empty() -> None:
    empty = ~kaldi_bank(512, 128, 16000, 20.0, 0.0).any(dim=0)
    assert empty.nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_windows_equal_torchaudio(name: str) -> None:
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi")
    theirs = "hanning" if name == "hann" else name
    expected = kaldi._feature_window_function(theirs, 400, 0.42, torch.device("cpu"), torch.float32)
    assert torch.equal(analysis_window(name, 400), expected)


def test_periodic_hann_equals_torch() -> None:
    assert torch.equal(analysis_window("hann", 400, periodic=True), torch.hann_window(400))


@pytest.mark.parametrize("num_mels", [1, 8, 80, 128])
@pytest.mark.parametrize("width", [1, 16, 200])
def test_bands_hold_every_weight_once(num_mels: int, width: int) -> None:
    bank = kaldi_bank(512, num_mels, 16000, 20.0, 0.0)
    rebuilt = torch.zeros_like(bank)
    for first, last, low, high in band_ranges(bank, width):
        assert high > low
        rebuilt[low:high, first:last] += bank[low:high, first:last]
    assert torch.equal(rebuilt, bank)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(UserError, match="nearest: 'hann'"):
        analysis_window("han", 400)
    for num_mels, low, high in [(0, 0.0, 0.0), (80, -1.0, 0.0), (80, 0.0, 9000.0), (80, 5000.0, 4000.0)]:
        with pytest.raises(UserError, match="8000 Hz"):
            htk_bank(201, num_mels, 16000, low, high)


def test_centres_lie_where_filters_peak() -> None:
    centres = mel_centres(40, 16000, 20.0, 0.0)
    bank = kaldi_bank(4096, 40, 16000, 20.0, 0.0)  # bins of 3.9 Hz
    peaks = bank.argmax(0) * 16000 / 4096
    assert torch.all((centres - peaks).abs() <= 4)
