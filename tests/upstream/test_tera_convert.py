"""Published checkpoints: every generation, bit by bit, strictly, and without running what a file carries."""

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from speechssl import testing
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.upstream.tera import Tera, TeraPretraining, convert
from speechssl.upstream.tera.layout import expected_shapes

FILE = Path(__file__).parents[1] / "fixtures" / "tera_published.pt"
SMALL = {"hidden_size": 24, "num_layers": 2, "num_heads": 2, "intermediate_size": 48}


@pytest.fixture
def content() -> dict:
    return torch.load(FILE, weights_only=True)


def save(tmp_path: Path, content: dict) -> Path:
    torch.save(content, tmp_path / "states.ckpt")
    return tmp_path / "states.ckpt"


def foreign_schedule() -> object:
    """Return an object that pickles as an instance of a class in a module named `optimizers`."""
    schedule = type("WarmupLinearSchedule", (), {"__module__": "optimizers"})
    module = ModuleType("optimizers")
    module.WarmupLinearSchedule = schedule
    sys.modules["optimizers"] = module
    instance = schedule()
    instance.warmup, instance.t_total = 0.07, 1000000
    return instance


def older_state(state: dict) -> dict:
    spell = {"weight": "gamma", "bias": "beta"}
    return {
        f"{owner}.{spell[part]}" if owner.endswith("LayerNorm") else f"{owner}.{part}": tensor
        for (owner, _, part), tensor in ((name.rpartition("."), tensor) for name, tensor in state.items())
    }


def forge(content: dict, generation: str) -> dict:
    """Return the weights of `content` in the surroundings of one generation of the format."""
    config = content["Upstream_Config"]
    weights = {"SpecHead": content["SpecHead"], "Transformer": content["Transformer"]}
    optimizer = {"state": {0: {"step": 5}}, "param_groups": [{"lr": 2e-4, "schedule": foreign_schedule()}]}
    trained = {
        "Optimizer": optimizer,
        "Step": 1000000,
        "Args": argparse.Namespace(seed=1337, upstream="tera"),
    }
    if generation == "A":
        task = {k: v for k, v in config["task"].items() if k.startswith(("mask", "noise"))}
        first = config["transformer"] | task | {"input_dim": 80, "downsample_rate": 1, "mask_frequency": 8}
        del first["pre_layer_norm"]
        settings = {"Config": {"transformer": first}, "Paras": argparse.Namespace(ckpt=None)}
        states = {
            "SpecHead": older_state(weights["SpecHead"]),
            "Transformer": older_state(weights["Transformer"]),
        }
        return states | {"Optimizer": optimizer, "Global_step": 200000, "Settings": settings}
    if generation == "B":
        return weights | trained | {"Runner": {"runner": {"total_steps": 1000000}}, "Config": config}
    if generation == "C":
        return weights | trained | {"Config": {"runner": {"total_steps": 1000000}}, "Upstream_Config": config}
    alone = {"transformer": config["transformer"], "audio": config["audio"], "task": {"sequence_length": 0}}
    return weights | {"Config": {}, "Upstream_Config": alone}


@pytest.mark.parametrize("generation", ["A", "B", "C", "D"])
def test_every_generation_is_read_and_written_back_bit_by_bit(content: dict, generation: str, tmp_path: Path) -> None:
    published = convert.read(save(tmp_path, forge(content, generation)))
    assert published.config["frontend"] == ("features" if generation == "A" else "log_mel")
    assert published.config["num_mels"] == 80
    assert published.config["layer_norm_eps"] == 1e-12
    assert published.task_config.get("mask_frequency") == {"A": 8.0, "D": None}.get(generation, 0.2)
    task = TeraPretraining(Tera(**published.config), **published.task_config)
    task.upstream.load_state_dict(published.upstream_state)
    assert not task.load_state_dict(published.task_state, strict=False).unexpected_keys
    convert.write(task.upstream, tmp_path / "back.ckpt", task)
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    for part in ("Transformer", "SpecHead"):
        assert back[part].keys() == content[part].keys()
        assert all(torch.equal(back[part][name], content[part][name]) for name in content[part])
    again = convert.read(tmp_path / "back.ckpt")
    assert again.config == published.config
    assert again.task_config == published.task_config | again.task_config


def test_number_and_shape_of_published_tensors() -> None:
    base = {"hidden_size": 768, "intermediate_size": 3072, "num_layers": 3, "num_mels": 80}
    encoder, head = expected_shapes(base, 80)
    assert len(encoder) == 52
    assert len(head) == 6
    assert sum(torch.Size(shape).numel() for shape in encoder.values()) == 21_327_360
    assert sum(torch.Size(shape).numel() for shape in head.values()) == 653_648


def test_load_upstream_reproduces_the_reference(tera_golden: dict) -> None:
    waveforms = [tera_golden[f"wav{i}"] for i in range(3)]
    upstream = load_upstream("tera", checkpoint=FILE, batch_padded=True, max_frames=1500)
    for ours, theirs in zip(upstream(waveforms).hidden_states, tera_golden["wav_hidden_states"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def corrupted(content: dict, part: str, change: str) -> dict:
    state = dict(content[part])
    name = list(state)[3]
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["encoder.layer.7.output.dense.bias"] = torch.zeros(3)
    else:
        state[name] = torch.zeros(5)
    return content | {part: state}


@pytest.mark.parametrize("part", ["Transformer", "SpecHead"])
@pytest.mark.parametrize(
    ("change", "message"),
    [("missing", "lacks the tensor {}"), ("extra", "holds a tensor {}"), ("shape", "{}.* has shape")],
)
def test_weights_must_fit_exactly(content: dict, part: str, change: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message.format(part)):
        convert.read(save(tmp_path, corrupted(content, part, change)))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("transformer", {"pre_layer_norm": True}, "pre_layer_norm is True"),
        ("transformer", {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("transformer", {"downsample_rate": 3}, "downsample_rate is 3"),
        ("transformer", {"hidden_size": "wide"}, "hidden_size should be a number"),
        ("transformer", {"num_hidden_layers": 3}, "lacks the tensor"),
        ("audio", {"target_level": -20}, "target_level is -20"),
        ("audio", {"input": {"feat_type": "mfcc"}}, "feat_type is 'mfcc'"),
        ("audio", {"kaldi": {"feat_type": "mfcc"}}, "feat_type is 'mfcc'"),
        ("audio", {"kaldi": {"feat_type": "fbank", "fbank": {"vtln_warp": 1.1}}}, "vtln_warp"),
        ("audio", {"kaldi": {"feat_type": "fbank", "fbank": {"dither": 1.0}}}, "dither is 1.0"),
    ],
)
def test_settings_this_model_does_not_have_are_named(
    content: dict, section: str, values: dict, message: str, tmp_path: Path
) -> None:
    content["Upstream_Config"][section] |= values
    with pytest.raises(UserError, match=message):
        convert.read(save(tmp_path, content))


def test_files_that_are_something_else(content: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected weights under 'Transformer', found model"):
        convert.read(save(tmp_path, {"model": {}}))
    with pytest.raises(UserError, match="not a TERA checkpoint"):
        convert.read(save(tmp_path, [1, 2]))
    with pytest.raises(UserError, match="no model configuration"):
        convert.read(save(tmp_path, {"Transformer": content["Transformer"]}))
    with pytest.raises(UserError, match="does not exist"):
        convert.read(tmp_path / "nowhere.ckpt")
    whole = FILE.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable checkpoint"):
        convert.read(tmp_path / "cut.ckpt")


class Malicious:
    """Asks whoever unpickles it to create a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_code_in_a_file_is_refused_and_not_run(content: dict, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    path = save(tmp_path, content | {"Args": Malicious(mark)})
    with pytest.raises(UserError, match="carries code and was refused") as caught:
        convert.read(path)
    assert not mark.exists()
    assert "\n" not in str(caught.value)
    assert "mkdir" in str(caught.value)


def test_share_layer_files_hold_every_layer(content: dict, tmp_path: Path) -> None:
    content["Upstream_Config"]["transformer"]["share_layer"] = True
    shared = {n: content["Transformer"][n.replace("layer.1", "layer.0")] for n in content["Transformer"]}
    state = convert.read(save(tmp_path, content | {"Transformer": shared})).upstream_state
    assert torch.equal(state["layers.0.expand.weight"], state["layers.1.expand.weight"])


def test_a_head_that_predicts_a_linear_spectrum(content: dict, tmp_path: Path) -> None:
    content["Upstream_Config"]["audio"]["target"] = {"feat_type": "linear", "log": True}
    content["SpecHead"] |= {"output.weight": torch.zeros(201, 48), "output.bias": torch.zeros(201)}
    assert convert.read(save(tmp_path, content)).task_state["head.output.bias"].shape == (201,)


def test_a_file_without_a_head(content: dict, tmp_path: Path) -> None:
    del content["SpecHead"]
    assert convert.read(save(tmp_path, content)).task_state == {}


def test_kaldi_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    upstream = Tera(**SMALL, frontend="kaldi_fbank", deltas=2)
    convert.write(upstream, tmp_path / "kaldi.ckpt")
    published = convert.read(tmp_path / "kaldi.ckpt")
    expected = {"frontend": "kaldi_fbank", "num_mels": 80, "deltas": 2, "normalization": "utterance"}
    assert published.config.items() >= expected.items()
    assert testing.largest_difference(upstream, load_upstream("tera", checkpoint=tmp_path / "kaldi.ckpt")) == 0


def test_given_width_when_the_file_leaves_it_to_an_extractor(content: dict, tmp_path: Path) -> None:
    del content["Upstream_Config"]["audio"]
    config = convert.read(save(tmp_path, content)).config
    assert (config["frontend"], config["num_mels"]) == ("features", 80)


def corpus_model() -> TeraPretraining:
    torch.manual_seed(0)
    upstream = Tera(**SMALL, normalization="corpus", initializer_range=0.1)
    upstream.set_statistics(torch.linspace(-8, -3, 80), torch.linspace(1, 4, 80))
    return TeraPretraining(upstream).eval()


def test_corpus_statistics_are_folded_into_the_weights(tmp_path: Path) -> None:
    task = corpus_model()
    convert.write(task.upstream, tmp_path / "folded.ckpt", task)
    published = convert.read(tmp_path / "folded.ckpt")
    assert published.config["normalization"] == "none"
    folded = load_upstream("tera", checkpoint=tmp_path / "folded.ckpt")
    assert testing.largest_difference(task.upstream, folded) <= 1e-4
    again = TeraPretraining(folded).eval()
    again.load_state_dict(published.task_state, strict=False)
    waveforms, lengths = torch.stack(testing.speech_like([8000, 8000])), torch.tensor([8000, 8000])
    frontend = task.upstream.frontend
    predicted = (
        task.reconstruct(*task.upstream.features(waveforms, lengths)) * frontend.corpus_std + frontend.corpus_mean
    )
    torch.testing.assert_close(again.reconstruct(*folded.features(waveforms, lengths)), predicted, rtol=0, atol=1e-3)


@pytest.mark.parametrize("model", ["published", "corpus"])
def test_s3prl_loads_what_is_written(mockingjay: ModuleType, model: str, tmp_path: Path) -> None:
    expert = pytest.importorskip("s3prl.upstream.mockingjay.expert", exc_type=ImportError)
    upstream = load_upstream("tera", checkpoint=FILE) if model == "published" else corpus_model().upstream
    convert.write(upstream, tmp_path / "ours.ckpt")
    theirs = expert.UpstreamExpert(str(tmp_path / "ours.ckpt")).eval()
    waveform = testing.speech_like([12345])[0]
    with torch.no_grad():
        expected = theirs([waveform])["hidden_states"]
        found = upstream([waveform]).hidden_states
    for ours, peer in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, peer, rtol=0, atol=2e-4)
