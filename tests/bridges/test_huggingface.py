"""Our encoders through transformers: its Auto classes, its feature extractor, its way of saving."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from speechssl import testing
from speechssl.errors import UserError
from speechssl.hub import load_upstream, weights_sha256

pytest.importorskip("transformers", exc_type=ImportError)

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor

from speechssl.bridges.huggingface import SpeechsslConfig, SpeechsslModel

LENGTHS = [16000, 12345, 8000]
WAVEFORMS = testing.speech_like(LENGTHS)


@torch.no_grad()
def test_every_family_there_and_back(run_directories: dict[str, Path], tmp_path: Path) -> None:
    """A run directory read, saved, and read again through the Auto classes, gives what load_upstream gives."""
    for family, run in run_directories.items():
        upstream = load_upstream(str(run))
        SpeechsslModel.from_pretrained(run).save_pretrained(tmp_path / family)
        model = AutoModel.from_pretrained(tmp_path / family)
        extractor = AutoFeatureExtractor.from_pretrained(tmp_path / family)
        assert isinstance(model, SpeechsslModel)
        assert isinstance(extractor, Wav2Vec2FeatureExtractor)
        assert not model.training
        assert all(p.requires_grad for p in model.parameters())
        batch = extractor([w.numpy() for w in WAVEFORMS], sampling_rate=16000, padding=True, return_tensors="pt")
        output = model(**batch, output_hidden_states=True)
        expected = upstream(WAVEFORMS)
        assert torch.equal(output.lengths, expected.lengths)
        for ours, theirs in zip(output.hidden_states, expected.hidden_states, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        assert output.last_hidden_state is output.hidden_states[-1]
        assert len(output.hidden_states) == model.config.num_hidden_layers + 1
        assert output.last_hidden_state.shape[2] == model.config.hidden_size
        assert weights_sha256(load_upstream(str(tmp_path / family))) == weights_sha256(upstream)


def test_configuration(run_dir: Path, tmp_path: Path) -> None:
    SpeechsslModel.from_pretrained(run_dir).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, SpeechsslConfig)
    assert config.config == load_upstream(str(run_dir)).config
    assert (config.family, config.sampling_rate, config.downsample_rate) == ("tera", 16000, 160)
    config.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path / "again").config == config.config


def test_an_untrained_model_of_a_configuration(run_dir: Path, tmp_path: Path) -> None:
    """The family initialises its weights, not transformers."""
    SpeechsslModel.from_pretrained(run_dir).save_pretrained(tmp_path)
    torch.manual_seed(3)
    model = AutoModel.from_config(AutoConfig.from_pretrained(tmp_path))
    torch.manual_seed(3)
    expected = load_upstream("tera/debug@random3", **model.config.config)
    for (name, ours), theirs in zip(model.upstream.named_parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_outputs(run_dir: Path) -> None:
    model = SpeechsslModel.from_pretrained(run_dir)
    batch = torch.stack([w[:8000] for w in WAVEFORMS])
    plain = model(batch)
    assert plain.hidden_states is None
    assert plain.lengths.tolist() == [51, 51, 51]
    last, lengths = model(batch, return_dict=False)
    assert torch.equal(last, plain.last_hidden_state)
    assert torch.equal(lengths, plain.lengths)
    model.config.output_hidden_states = True
    assert len(model(batch).hidden_states) == 3
    model.train()
    model(batch).last_hidden_state.sum().backward()


def test_hidden_states_can_be_asked_for_on_loading(run_dir: Path, tmp_path: Path) -> None:
    SpeechsslModel.from_pretrained(run_dir).save_pretrained(tmp_path)
    batch = torch.zeros(1, 8000)
    for model in (
        AutoModel.from_pretrained(tmp_path, output_hidden_states=True),
        SpeechsslModel.from_pretrained(tmp_path, output_hidden_states=True),
    ):
        assert len(model(batch).hidden_states) == 3
    assert AutoModel.from_pretrained(tmp_path)(batch).hidden_states is None


def test_settings_of_the_encoder(run_directories: dict[str, Path], tmp_path: Path) -> None:
    SpeechsslModel.from_pretrained(run_directories["ssast"]).save_pretrained(tmp_path)
    wide = AutoModel.from_pretrained(tmp_path, frequency_pooling="concat")
    mean = AutoModel.from_pretrained(tmp_path, dtype="auto")
    assert wide.config.hidden_size == wide.upstream.hidden_size > mean.config.hidden_size
    config = AutoConfig.from_pretrained(tmp_path)
    config.config["frequency_pooling"] = "concat"
    assert SpeechsslModel.from_pretrained(tmp_path, config=config).config.hidden_size == wide.config.hidden_size


def test_there_and_back(run_dir: Path, local_hub) -> None:
    assert SpeechsslModel.from_pretrained(run_dir).push_to_hub("me/tera").endswith("me/tera")
    model = SpeechsslModel.from_pretrained("me/tera")
    again = AutoModel.from_pretrained("me/tera")
    extractor = AutoFeatureExtractor.from_pretrained("me/tera")
    assert (
        weights_sha256(model.upstream) == weights_sha256(load_upstream(str(run_dir))) == weights_sha256(again.upstream)
    )
    assert (extractor.do_normalize, extractor.return_attention_mask) == (False, True)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "speechssl.bridges.huggingface"
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"needs transformers.*pip install 'speechssl\[hf\]'"):
        importlib.import_module(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"torch_dtype": torch.float16}, "weights stay in float32"),
        ({"device_map": "auto"}, r"device_map does not apply.*\.to\(device\)"),
        ({"hidden_sise": 3}, "no setting 'hidden_sise'.*nearest: 'hidden_size'"),
    ],
)
def test_what_does_not_apply(run_dir: Path, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpeechsslModel.from_pretrained(run_dir, **settings)


def test_masks_that_do_not_fit(run_dir: Path) -> None:
    model, batch = SpeechsslModel.from_pretrained(run_dir), torch.stack([w[:8000] for w in WAVEFORMS])
    with pytest.raises(UserError, match="expected padding at the end of each row"):
        model(batch, torch.arange(8000).expand(3, -1) > 100)
    with pytest.raises(UserError, match=r"of the shape of input_values, \(3, 8000\), found \(3, 50\)"):
        model(batch, torch.ones(3, 50))
    half = (torch.arange(8000) < 4000).long().expand(3, -1)
    assert model(batch, half).lengths.tolist() == [26, 26, 26]
