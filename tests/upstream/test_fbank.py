"""The filter bank baselines: values, lengths, and what normalisation leaves of an utterance's average."""

import pytest
import torch

from speechssl.registry import build_upstream
from speechssl.testing import speech_like

FAMILIES = ["fbank", "fbank_no_cmvn"]


@pytest.mark.parametrize("family", FAMILIES)
def test_values_equal_s3prls(family: str) -> None:
    s3prl = pytest.importorskip("s3prl.upstream.baseline.extracter")
    audio = {
        "kaldi": {"feat_type": "fbank", "fbank": {"num_mel_bins": 80}},
        "delta": {"order": 2, "win_length": 5},
    }
    extractor, size, _ = s3prl.get_extracter(audio | {"cmvn": {"use_cmvn": family == "fbank"}})
    upstream = build_upstream(family, {})
    assert upstream.hidden_size == size == 240
    waveforms = speech_like([16000, 7777, 12000])
    features = upstream(waveforms)
    assert len(features.hidden_states) == upstream.num_layers + 1 == 1
    assert features.lengths.tolist() == [98, 47, 73]
    for row, waveform in enumerate(waveforms):
        ours = features.hidden_states[0][row, : features.lengths[row]]
        torch.testing.assert_close(ours, extractor(waveform), rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_shape_of_the_contract(family: str) -> None:
    upstream = build_upstream(family, {"num_mels": 8, "deltas": 1})
    assert (upstream.hidden_size, upstream.num_layers, upstream.downsample_rate) == (16, 0, 160)
    assert not list(upstream.parameters())
    features = upstream([torch.zeros(100)])  # padded to 50 ms
    assert features.hidden_states[0].shape == (1, 3, 16)
    assert features.hidden_states[0].isfinite().all()


def test_the_mean_of_an_utterance_is_zero_only_with_normalisation() -> None:
    waveforms = speech_like([16000, 9000])
    means = {}
    for family in FAMILIES:
        features = build_upstream(family, {})(waveforms)
        sums = features.hidden_states[0].sum(1)
        means[family] = (sums / features.lengths[:, None]).abs().max().item()
    assert means["fbank"] < 1e-4
    assert means["fbank_no_cmvn"] > 1
