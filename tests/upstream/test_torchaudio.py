"""torchaudio's bundles through our door, with small random models of the same classes instead of the downloads."""

import importlib.util
import os
import pickle
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from torch import nn

from speechssl import testing
from speechssl.errors import UserError
from speechssl.hub import check_name, load_upstream
from speechssl.upstream.torchaudio import bundles

torchaudio = pytest.importorskip("torchaudio", exc_type=(ImportError, OSError))

CONVOLUTIONS = [(24, 10, 5), *[(24, 3, 2)] * 4, *[(24, 2, 2)] * 2]
SMALL = {
    "extractor_conv_layer_config": CONVOLUTIONS,
    "encoder_embed_dim": 32,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_ff_interm_features": 48,
}
LENGTHS = [16000, 12345, 8000]
WAVEFORMS = testing.speech_like(LENGTHS)


@pytest.fixture(params=["WAV2VEC2_BASE", "HUBERT_LARGE", "WAVLM_BASE", "WAV2VEC2_ASR_BASE_960H", "MMS_FA"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundle whose `get_model` builds and reads a small model instead of the published one."""
    bundle = getattr(torchaudio.pipelines, request.param)
    monkeypatch.setattr(bundle, "_params", {key: SMALL.get(key, value) for key, value in bundle._params.items()})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchaudio.pipelines._wav2vec2.utils._get_model(bundle._model_type, bundle._params)
    state = model.state_dict()

    def download(address: str, settings: dict, *axes: Any) -> dict:
        assert settings["weights_only"] is True
        return state

    monkeypatch.setattr(torchaudio.pipelines._wav2vec2.utils, "_get_state_dict", download)
    return request.param


@torch.no_grad()
def test_equals_extract_features(name: str) -> None:
    ours = load_upstream(f"torchaudio:{name}")
    theirs = getattr(torchaudio.pipelines, name).get_model(dl_kwargs={"weights_only": True})
    assert (ours.num_layers, ours.hidden_size, ours.downsample_rate, ours.sample_rate) == (2, 32, 320, 16000)
    found = ours(WAVEFORMS)
    assert found.lengths.tolist() == [1 + (samples - 400) // 320 for samples in LENGTHS]
    for row, (waveform, frames) in enumerate(zip(WAVEFORMS, found.lengths.tolist(), strict=True)):
        expected, _ = theirs.extract_features(waveform[None])
        assert len(found.hidden_states) == len(expected) + 1
        for state, peer in zip(found.hidden_states[1:], expected, strict=True):
            torch.testing.assert_close(state[row, :frames], peer[0], rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_first_state_is_what_the_first_layer_gets(name: str) -> None:
    ours = load_upstream(f"torchaudio:{name}")
    waveform = WAVEFORMS[:1]
    states = ours(waveform).hidden_states
    inner = getattr(ours.model, "model", ours.model)
    normalized = ours.model is not inner
    assert normalized == getattr(torchaudio.pipelines, name)._normalize_waveform or name == "MMS_FA"
    first, _ = inner.encoder.transformer.layers[0](states[0])
    torch.testing.assert_close(first, states[1], rtol=0, atol=1e-6)
    features, _ = inner.feature_extractor(waveform_of(waveform[0], normalized and ours.model.normalize_waveform), None)
    torch.testing.assert_close(
        inner.encoder.transformer._preprocess(inner.encoder.feature_projection(features)), states[0]
    )


def waveform_of(waveform: torch.Tensor, normalized: bool) -> torch.Tensor:
    return nn.functional.layer_norm(waveform, waveform.shape)[None] if normalized else waveform[None]


def test_contract(name: str) -> None:
    upstream = load_upstream(f"torchaudio:{name}")
    testing.check_upstream(upstream)
    assert upstream.config == {"bundle": name, "torchaudio": bundles.metadata.version("torchaudio")}
    assert not any(parameter.requires_grad for parameter in upstream.parameters())


def test_names() -> None:
    assert {"WAV2VEC2_BASE", "HUBERT_BASE", "WAVLM_BASE", "WAVLM_LARGE"} <= set(bundles.names())
    check_name("torchaudio:HUBERT_BASE")
    with pytest.raises(UserError, match=r"no encoder bundle 'hubert_base'; nearest: 'HUBERT_BASE'"):
        check_name("torchaudio:hubert_base")
    with pytest.raises(UserError, match=r"no encoder bundle 'TACOTRON2_WAVERNN_CHAR_LJSPEECH'.*WAVLM_LARGE"):
        check_name("torchaudio:TACOTRON2_WAVERNN_CHAR_LJSPEECH")


def test_settings_are_refused() -> None:
    with pytest.raises(UserError, match="torchaudio:HUBERT_BASE has no settings, found layers"):
        load_upstream("torchaudio:HUBERT_BASE", layers=3)


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(url: str, **settings: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torchaudio.pipelines._wav2vec2.utils, "load_state_dict_from_url", unreachable)
    with pytest.raises(UserError, match=r"torchaudio:HUBERT_BASE cannot be downloaded.*no route to host") as caught:
        load_upstream("torchaudio:HUBERT_BASE")
    assert "\n" not in str(caught.value)


class Malicious:
    """Asks whoever unpickles it to create a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_what_was_downloaded_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"weights": Malicious(tmp_path / "it-ran")}, folder / "hubert_fairseq_base_ls960.pth")
    with pytest.raises(
        UserError, match=r"weights of torchaudio:HUBERT_BASE cannot be read \(UnpicklingError"
    ) as caught:
        load_upstream("torchaudio:HUBERT_BASE")
    assert isinstance(caught.value.__cause__, pickle.UnpicklingError)
    assert str(folder) in str(caught.value)
    assert not (tmp_path / "it-ran").exists()


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == "torchaudio" else find(package))
    for call in (load_upstream, check_name):
        with pytest.raises(UserError, match=r"torchaudio, which is missing.*pip install 'speechssl\[torchaudio\]'"):
            call("torchaudio:HUBERT_BASE")
