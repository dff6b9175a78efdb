"""Published BEATs files: every tensor finds its place, both ways, bit for bit."""

from pathlib import Path

import pytest
import torch

from speechssl import registry, testing
from speechssl.commands.main import dispatch
from speechssl.errors import UserError
from speechssl.hub import load_objective, load_upstream
from speechssl.upstream.beats import Beats, convert

FIXTURES = Path(__file__).parents[1] / "fixtures"
COUNTERS = {"quantize.embedding.cluster_size", "quantize.embedding.embed_avg"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of the published layout: pretrained, fine-tuned, tokenizer."""
    folder = tmp_path_factory.mktemp("published")
    models = torch.load(FIXTURES / "beats_model.pt", weights_only=True)
    parts = {name: models[name] for name in ("ssl", "finetuned")}
    parts["tokenizer"] = torch.load(FIXTURES / "beats_tokenizer.pt", weights_only=True)
    for name, part in parts.items():
        content = {"cfg": dict(part["cfg"]), "model": dict(part["state_dict"])}
        torch.save(content, folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in parts}


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def random_beats(**settings) -> Beats:
    torch.manual_seed(3)
    small = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "embedding_size": 16, "conv_positions": 8}
    upstream = registry.build_upstream("beats", small | {"conv_position_groups": 4} | settings).eval()
    with torch.no_grad():
        for parameter in upstream.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return upstream


@pytest.mark.parametrize("name", ["ssl", "finetuned"])
def test_golden_files_survive_the_way_there_and_back(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    upstream = load_upstream(f"beats:{files[name]}")
    convert.write(upstream, tmp_path / "again.pt")
    before, after = tensors(files[name]), tensors(tmp_path / "again.pt")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    old, new = (torch.load(path, weights_only=True)["cfg"] for path in (files[name], tmp_path / "again.pt"))
    assert {key: new[key] for key in new if key in old} == {key: old[key] for key in new if key in old}
    assert old.keys() - new.keys() <= {"predictor_class", "predictor_dropout"}
    assert new["finetuned_model"] is (name == "finetuned")
    assert (upstream.classifier is not None) is (name == "finetuned")
    assert load_objective(files[name], upstream) is None


def test_tokenizer_files_survive_the_way_there_and_back(files: dict[str, Path], tmp_path: Path) -> None:
    kind, config, state = convert.read_tokenizer(files["tokenizer"])
    assert (kind, config["num_codes"], config["code_size"]) == ("distilled", 64, 16)
    tokenizer = registry.module("upstream", "beats").TOKENIZERS[kind](**config)
    tokenizer.load_state_dict(state)
    convert.write_tokenizer(tokenizer, tmp_path / "again.pt")
    before, after = tensors(files["tokenizer"]), tensors(tmp_path / "again.pt")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before.keys() - COUNTERS)
    again = convert.read_tokenizer(tmp_path / "again.pt")
    assert again[1] == config
    assert all(torch.equal(again[2][key], state[key]) for key in state)


def test_the_encoder_of_a_tokenizer_is_an_upstream(files: dict[str, Path]) -> None:
    upstream = load_upstream("beats", checkpoint=files["tokenizer"])
    _, _, state = convert.read_tokenizer(files["tokenizer"])
    assert all(torch.equal(tensor, state[f"upstream.{name}"]) for name, tensor in upstream.state_dict().items())


@pytest.mark.parametrize(
    "settings",
    [
        {"pre_norm": True, "deep_norm": False, "activation": "glu", "intermediate_size": 20},
        {"gated": False, "activation": "relu", "embedding_size": 24, "num_buckets": 16, "max_distance": 30},
        {"num_classes": 4, "classifier_dropout": 0.2, "dropout": 0.3, "layer_drop": 0.05, "gradient_decay": 0.6},
        {"mean": 11.72215, "std": 10.60431},
    ],
    ids=["pre_norm, glu", "plain bias", "fine-tuned", "other statistics"],
)
def test_every_variant_comes_back_as_it_was(tmp_path: Path, settings: dict) -> None:
    before = random_beats(**settings)
    convert.write(before, tmp_path / "model.pt")
    after = load_upstream(f"beats:{tmp_path / 'model.pt'}")
    assert before.state_dict().keys() == after.state_dict().keys()
    assert all(torch.equal(tensor, after.state_dict()[name]) for name, tensor in before.state_dict().items())
    filled = before.config | {"intermediate_size": before.stack_config["intermediate_size"]}
    assert after.config == pytest.approx(filled | {k: after.config[k] for k in ("mean", "std")})
    assert testing.largest_difference(before, after) == 0


def test_statistics_measured_on_a_corpus_travel(tmp_path: Path) -> None:
    upstream = random_beats(mean=None, std=None)
    with pytest.raises(UserError, match="statistics"):
        convert.write(upstream, tmp_path / "model.pt")
    upstream.set_statistics(torch.linspace(5, 16, 128), torch.full((128,), 3.0))
    convert.write(upstream, tmp_path / "model.pt")
    again = load_upstream(f"beats:{tmp_path / 'model.pt'}")
    assert torch.equal(again.spectrogram.mean, upstream.spectrogram.mean)
    assert torch.equal(again.spectrogram.std, upstream.spectrogram.std)


def test_settings_that_cfg_leaves_out_have_the_published_defaults(files: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(files["ssl"], weights_only=True)
    for name in ("max_distance", "dropout", "num_buckets", "encoder_layerdrop"):
        del content["cfg"][name]
    content["cfg"]["some_new_setting"] = [1, 2]
    torch.save(content, tmp_path / "short.pt")
    config = convert.read(tmp_path / "short.pt").config
    assert (config["max_distance"], config["dropout"], config["num_buckets"]) == (1280, 0.1, 320)


def test_openbeats_mask_convolutions_and_newer_weight_norms_are_read(files: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(files["ssl"], weights_only=True)
    model = content["model"]
    ones = {"patch_embedding_pad.weight": torch.ones(1, 1, 16, 16), "raw2fbank_pad.weight": torch.ones(1, 1, 400)}
    stem = "encoder.pos_conv.0."
    names = {f"{stem}weight_g": "original0", f"{stem}weight_v": "original1"}
    renamed = {f"{stem}parametrizations.weight.{names[n]}" if n in names else n: t for n, t in model.items()}
    torch.save({"cfg": content["cfg"], "model": renamed | ones}, tmp_path / "open.pt")
    expected, found = convert.read(files["ssl"]), convert.read(tmp_path / "open.pt")
    assert found.config == expected.config
    assert found.upstream_state.keys() == expected.upstream_state.keys()
    assert all(torch.equal(tensor, expected.upstream_state[name]) for name, tensor in found.upstream_state.items())


def test_label_names(files: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(files["finetuned"], weights_only=True)
    torch.save(content | {"label_dict": {0: "/m/09x0r", 1: "/m/05zppz"}}, tmp_path / "named.pt")
    assert convert.read_labels(tmp_path / "named.pt") == {0: "/m/09x0r", 1: "/m/05zppz"}
    assert convert.read_labels(files["finetuned"]) is None
    assert load_upstream(f"beats:{tmp_path / 'named.pt'}").classifier.out_features == 10


def test_the_convert_command_keeps_everything(files: dict[str, Path], tmp_path: Path) -> None:
    dispatch(["convert", "family=beats", f"source={files['finetuned']}", f"out={tmp_path / 'folder'}"])
    dispatch(["convert", "family=beats", f"source={tmp_path / 'folder'}", f"out={tmp_path / 'b.pt'}"])
    first, second = tensors(files["finetuned"]), tensors(tmp_path / "b.pt")
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_files_are_one_clear_line(files: dict[str, Path], tmp_path: Path) -> None:
    good = torch.load(files["ssl"], weights_only=True)
    cfg, model = good["cfg"], good["model"]

    def message(content: object) -> str:
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(UserError) as error:
            load_upstream(f"beats:{tmp_path / 'bad.pt'}")
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "not a BEATs checkpoint" in message([1, 2])
    assert "not a BEATs checkpoint" in message({"model": model})
    assert "not a BEATs checkpoint" in message({"cfg": cfg, "model": {"x": torch.zeros(1)}})
    missing = {name: tensor for name, tensor in model.items() if name != "encoder.layers.1.fc2.bias"}
    assert "lacks the tensor encoder.layers.1.fc2.bias" in message({"cfg": cfg, "model": missing})
    assert "no place: extra" in message({"cfg": cfg, "model": model | {"extra": torch.zeros(1)}})
    wrong = model | {"encoder.layers.0.self_attn.k_proj.weight": torch.zeros(7, 48)}
    assert "k_proj.weight has shape (7, 48), its cfg asks for (48, 48)" in message({"cfg": cfg, "model": wrong})
    table = "encoder.layers.1.self_attn.relative_attention_bias.weight"
    assert "all layers share one table" in message({"cfg": cfg, "model": model | {table: model[table] + 1}})
    assert "input_patch_size=8" in message({"cfg": cfg | {"input_patch_size": 8}, "model": model})
    plain = {"cfg": cfg | {"relative_position_embedding": False}, "model": model}
    assert "relative_position_embedding" in message(plain)
    deeper = {"cfg": cfg | {"encoder_layers": 3}, "model": model}
    assert "lacks the tensor encoder.layers.2" in message(deeper)
    with pytest.raises(UserError, match="not a tokenizer"):
        convert.read_tokenizer(files["ssl"])


def test_a_codebook_that_was_never_initialised_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    content = torch.load(files["tokenizer"], weights_only=True)
    for changes in (
        {"quantize.embedding.initted": torch.zeros(1)},
        {"quantize.embedding.weight": 2 * content["model"]["quantize.embedding.weight"]},
    ):
        torch.save({"cfg": content["cfg"], "model": content["model"] | changes}, tmp_path / "raw.pt")
        with pytest.raises(UserError, match="never initialised"):
            convert.read_tokenizer(tmp_path / "raw.pt")
    _, config, _ = convert.read_tokenizer(files["tokenizer"])
    fresh = registry.module("upstream", "beats").TOKENIZERS["distilled"](**config)
    with pytest.raises(UserError, match="initialised"):
        convert.write_tokenizer(fresh, tmp_path / "fresh.pt")
