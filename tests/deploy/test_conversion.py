"""Conversion both ways: the record, what is refused, and that nothing is left of what is."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechssl import registry, testing
from speechssl.deploy.conversion import convert
from speechssl.deploy.record import record_of, table
from speechssl.errors import UserError
from speechssl.files import sha256
from speechssl.hub import load_objective, load_upstream
from speechssl.interfaces import Upstream
from speechssl.train.checkpoint import export_tokenizer, export_upstream

FAMILIES = {"tera": {"normalization": "corpus"}, "ssast": {"num_heads": 3}, "beats": {}}
DEBUG = {"tera": "debug", "ssast": "patch_debug", "beats": "debug"}
OWN_STATISTICS = {"ssast": {"mean": None, "std": None}, "beats": {"mean": None, "std": None}}


def exported(family: str, folder: Path, **settings: Any) -> Upstream:
    """Export a small random model as a pretraining leaves it: with the statistics of a corpus, and its heads."""
    name = f"{family}/{DEBUG[family]}@random"
    upstream = load_upstream(name, **(FAMILIES[family] | OWN_STATISTICS.get(family, {}) | settings))
    testing.give_statistics(upstream)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in upstream.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    task = registry.module("upstream", family).PRETRAIN_TASK(upstream)
    export_upstream(upstream, folder, task=task)
    return upstream


def worst(record: dict[str, Any]) -> float:
    return max(state["relative"] for state in record["comparisons"][0]["states"])


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back(family: str, tmp_path: Path) -> None:
    upstream = exported(family, tmp_path / "export")
    file, folder = tmp_path / "published.bin", tmp_path / "ours"
    there = convert(family, tmp_path / "export", file, against="none")
    assert worst(there) < 1e-5
    assert len(there["comparisons"][0]["states"]) == upstream.num_layers + 1
    assert there == json.loads((tmp_path / "published.bin.parity.json").read_text())
    assert there["direction"] == "ours to published"
    assert there["written"] == [{"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}]
    assert {one["name"] for one in there["source"]} >= {"config.json", "model.safetensors"}
    needed = there["left_to_the_reader"]
    assert (needed == {}) == (family != "ssast")  # the file of this small SSAST does not tell its heads
    if family != "ssast":
        back = convert(family, file, folder, against="none")
        assert worst(back) == 0
        assert back == json.loads((folder / "parity.json").read_text()) == json.loads(record_of(folder).read_text())
        assert testing.largest_difference(upstream, load_upstream(str(folder))) < 1e-4
        assert (folder / "README.md").read_text().count("published.bin") == 1
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert not left


def test_heads_are_converted_too(tmp_path: Path) -> None:
    exported("tera", tmp_path / "export")
    convert("tera", tmp_path / "export", tmp_path / "a.ckpt", against="none")
    convert("tera", tmp_path / "a.ckpt", tmp_path / "ours", against="none")
    assert load_objective(tmp_path / "ours", load_upstream(str(tmp_path / "ours"))) is not None
    assert {"config.json", "model.safetensors", "pretraining.safetensors"} <= {
        p.name for p in (tmp_path / "ours").iterdir()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_gives_the_same_bytes(family: str, tmp_path: Path) -> None:
    exported(family, tmp_path / "export")
    for name in ("a", "b"):
        convert(family, tmp_path / "export", tmp_path / name / "model.bin", against="none")
    assert (tmp_path / "a/model.bin").read_bytes() == (tmp_path / "b/model.bin").read_bytes()


def test_settings_that_the_layout_does_not_hold_are_named(tmp_path: Path) -> None:
    upstream = exported("ssast", tmp_path / "export")
    record = convert("ssast", tmp_path / "export", tmp_path / "a.pth", against="none")
    assert record["left_to_the_reader"]["num_heads"] == 3
    assert "num_heads=3" in table(record)
    needed = {"num_heads": 3}
    again = load_upstream(f"ssast:{tmp_path / 'a.pth'}", **needed)
    assert testing.largest_difference(upstream, again) < 1e-4


def test_class_scores_of_a_fine_tuned_model_are_compared(tmp_path: Path) -> None:
    exported("beats", tmp_path / "export", num_classes=5)
    record = convert("beats", tmp_path / "export", tmp_path / "a.pt", against="none")
    assert record["comparisons"][0]["states"][-1]["state"] == "class scores"
    assert worst(record) < 1e-5


def test_another_model_than_the_source_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported("tera", tmp_path / "export")
    published = registry.module("upstream", "tera").PUBLISHED
    write = published.write

    def wrong(upstream: Upstream, path: Path, task: Any) -> None:
        with torch.no_grad():
            upstream.layers[0].expand.bias.add_(0.1)
            write(upstream, path, task)
            upstream.layers[0].expand.bias.sub_(0.1)

    monkeypatch.setattr(published, "write", wrong)
    with pytest.raises(
        UserError, match=r"hidden state \d of what was written differs .* tolerance=0.0001; nothing was"
    ):
        convert("tera", tmp_path / "export", tmp_path / "a.ckpt", against="none")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    convert("tera", tmp_path / "export", tmp_path / "a.ckpt", against="none", tolerance=10)


def test_what_was_there_stays_where_conversion_fails(tmp_path: Path) -> None:
    exported("tera", tmp_path / "export")
    convert("tera", tmp_path / "export", tmp_path / "a.ckpt", against="none")
    convert("tera", tmp_path / "a.ckpt", tmp_path / "ours", against="none")
    before = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    with pytest.raises(UserError, match="not a BEATs checkpoint"):
        convert("beats", tmp_path / "a.ckpt", tmp_path / "ours", against="none")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}


def test_a_folder_converted_into_again_holds_one_model(tmp_path: Path) -> None:
    exported("tera", tmp_path / "with heads")
    export_upstream(load_upstream("tera/debug@random1"), tmp_path / "without")
    for name in ("with heads", "without"):
        convert("tera", tmp_path / name, tmp_path / f"{name}.ckpt", against="none")
        convert("tera", tmp_path / f"{name}.ckpt", tmp_path / "ours", against="none")
    assert not (tmp_path / "ours" / "pretraining.safetensors").exists()
    assert testing.largest_difference(load_upstream(str(tmp_path / "ours")), load_upstream("tera/debug@random1")) == 0


def original(add: float = 0.0, first: int = 0, refuses: str = "") -> SimpleNamespace:
    """Return what a family exports as ORIGINAL: its own model, off by a constant."""

    def settings(config: dict[str, Any]) -> dict[str, Any]:
        if refuses:
            raise UserError(refuses)
        return {}

    def load(path: Path, config: dict[str, Any], load_upstream: Any) -> Any:
        upstream = load_upstream(f"tera:{path}")
        return lambda waveform: [state[0] + add for state in upstream([waveform]).hidden_states[first:]]

    return SimpleNamespace(CODE="a/package", PACKAGES=("torch",), FIRST=first, settings=settings, load=load)


def test_the_original_code_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "export")
    module = registry.module("upstream", "tera")
    monkeypatch.setattr(module, "ORIGINAL", original(first=1))
    asked = convert("tera", tmp_path / "export", tmp_path / "a.ckpt")["comparisons"][1]
    assert asked["against"] == "a/package"
    assert asked["versions"]["torch"] in torch.__version__  # without "+cpu"
    assert [state["state"] for state in asked["states"]] == [1, 2]
    monkeypatch.setattr(module, "ORIGINAL", original(add=0.01))
    with pytest.raises(UserError, match="our reading, from that of a/package, differs by"):
        convert("tera", tmp_path / "a.ckpt", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_why_the_original_was_not_asked_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "export")
    module = registry.module("upstream", "tera")
    monkeypatch.setattr(module, "ORIGINAL", original(refuses="it has no such size"))
    record = convert("tera", tmp_path / "export", tmp_path / "a.ckpt")
    assert record["comparisons"][1] == {"against": "a/package", "not_compared": "it has no such size"}
    assert "not compared: it has no such size" in table(record)
    with pytest.raises(UserError, match="against=original: it has no such size"):
        convert("tera", tmp_path / "export", tmp_path / "b.ckpt", against="original")
    monkeypatch.delattr(module, "ORIGINAL")
    with pytest.raises(UserError, match="names no original code"):
        convert("tera", tmp_path / "export", tmp_path / "b.ckpt", against="original")
    assert not (tmp_path / "b.ckpt").exists()
    assert not record_of(tmp_path / "b.ckpt").exists()


def test_tokenizers_keep_labels_and_encoder(tmp_path: Path) -> None:
    config = {"upstream": {"hidden_size": 48, "num_layers": 2, "num_heads": 3, "embedding_size": 32}}
    tokenizer = registry.build_tokenizer("beats", "distilled", {**config, "num_codes": 16, "code_size": 8})
    tokenizer.quantizer.initialise(torch.randn(16, 8), torch.ones(16))
    export_tokenizer(tokenizer, tmp_path / "export")
    there = convert("beats", tmp_path / "export", tmp_path / "a.pt")
    back = convert("beats", tmp_path / "a.pt", tmp_path / "ours")
    for record in (there, back):
        assert record["comparisons"][0]["labels_differing"] == 0
        assert worst(record) == 0
    assert {one["name"] for one in back["written"]} == {"model.safetensors", "tokenizer.safetensors"}
    card = (tmp_path / "ours" / "README.md").read_text()
    assert "| `the source` | labels that differ: 0; hidden states: 0.0e+00 |" in card
    assert "`num_codes=16`, `code_size=8`" in card
    with pytest.raises(UserError, match="tokenizers are not held against the original"):
        convert("beats", tmp_path / "a.pt", tmp_path / "other", against="original")
    assert not (tmp_path / "other").exists()


def test_what_is_not_an_export_of_ours_stays(tmp_path: Path) -> None:
    exported("tera", tmp_path / "export")
    weights = tmp_path / "export" / "model.safetensors"
    before = sha256(weights)
    with pytest.raises(UserError, match="is a file of the source"):
        convert("tera", tmp_path / "export", weights)
    assert sha256(weights) == before
    convert("tera", tmp_path / "export", tmp_path / "a.ckpt", against="none")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(UserError, match="other things than an exported model"):
        convert("tera", tmp_path / "a.ckpt", tmp_path / "theirs")
    assert [file.name for file in (tmp_path / "theirs").iterdir()] == ["config.json"]


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    export_upstream(load_upstream("tera/debug@random", normalization="corpus"), tmp_path / "untrained")
    (tmp_path / "file.ckpt").write_bytes(b"x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    cases = [
        (("terra", "untrained", "a"), {}, "nearest: 'tera'"),
        (("fbank", "untrained", "a"), {}, "no published layout"),
        (("tera", "nothing", "a"), {}, "does not exist"),
        (("tera", "untrained", "full"), {}, "is a folder"),
        (("tera", "file.ckpt", "file.ckpt"), {}, "is a file"),
        (("tera", "file.ckpt", "full"), {}, "other things than an exported model"),
        (("tera", "file.ckpt", "a"), {}, "not a readable checkpoint"),
        (("tera", "untrained", "a"), {}, "has no mean and std yet"),
        (("tera", "untrained", "a"), {"against": "orignal"}, "nearest: 'original'"),
        (("tera", "untrained", "a"), {"tolerance": math.nan}, "tolerance=nan"),
        (("tera", "untrained", "a"), {"tolerance": math.inf}, "tolerance=inf"),
    ]
    for (family, source, out), settings, expected in cases:
        with pytest.raises(UserError, match=expected):
            convert(family, tmp_path / source, tmp_path / out, **settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.ckpt", "full", "untrained"]
