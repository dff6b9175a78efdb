"""Upstreams by name, folder and file; wrong ones get one clear line."""

import json
from pathlib import Path

import pytest
import torch

import speechssl
from speechssl.errors import UserError
from speechssl.hub import load_upstream, weights_sha256
from speechssl.lineage import open_left
from speechssl.testing import largest_difference
from speechssl.train.checkpoint import export_upstream


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A small exported model."""
    export_upstream(load_upstream("tera/debug@random3", normalization="utterance"), tmp_path / "run" / "export")
    return tmp_path / "run"


def test_exported_folder_gives_the_same_model(exported: Path) -> None:
    original = load_upstream("tera/debug@random3", normalization="utterance")
    for name in (exported, exported / "export"):
        again = load_upstream(str(name))
        assert largest_difference(original, again) == 0
        assert weights_sha256(again) == weights_sha256(original)
        assert not again.training
        assert not any(p.requires_grad for p in again.parameters())
    assert largest_difference(original, load_upstream("tera", checkpoint=exported)) == 0
    assert largest_difference(original, load_upstream(f"tera:{exported}")) == 0


def test_seeds_of_untrained_models() -> None:
    same = [weights_sha256(load_upstream(f"tera/debug@random{n}")) for n in ("", "0", "1")]
    assert same[0] == same[1] != same[2]


def test_keyword_overrides_reach_the_constructor() -> None:
    assert load_upstream("tera/debug@random", num_layers=1).num_layers == 1
    with pytest.raises(UserError, match="nearest: 'num_layers'"):
        load_upstream("tera/debug@random", num_layer=1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("terra", "nearest: 'tera'"),
        ("tera/tinny", "nearest: 'tiny'"),
        ("tera/debug", "tera/debug@random"),
        ("tera/debug@rnd", "unknown suffix"),
        ("tera:/nowhere.ckpt", "does not exist"),
        (f"fbank:{__file__}", "no published checkpoint format"),
        ("/no/such/folder", "no such folder"),
        (__file__, "say FAMILY:"),
    ],
)
def test_unknown_names(name: str, expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        load_upstream(name)


def test_a_folder_without_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no exported model"):
        load_upstream(str(tmp_path))


def edit(exported: Path, **changes: object) -> None:
    path = exported / "export" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_damaged_exports(exported: Path) -> None:
    weights = exported / "export" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        load_upstream(str(exported))
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    weights.write_bytes(bytes(flipped))
    with pytest.raises(UserError, match="sha256 differs"):
        load_upstream(str(exported))
    weights.write_bytes(whole)
    edit(exported, format=99)
    with pytest.raises(UserError, match="upgrade speechssl"):
        load_upstream(str(exported))


def test_an_export_of_an_unknown_family_or_setting(exported: Path) -> None:
    config = json.loads((exported / "export" / "config.json").read_text())["config"]
    edit(exported, config=config | {"num_heds": 2})
    with pytest.raises(UserError, match="nearest: 'num_heads'"):
        load_upstream(str(exported))
    edit(exported, config=config, family="os")
    with pytest.raises(UserError, match="unknown upstream 'os'"):
        load_upstream(str(exported))


def test_weights_that_do_not_fit_name_the_tensor(exported: Path) -> None:
    config = json.loads((exported / "export" / "config.json").read_text())["config"]
    edit(exported, config=config | {"intermediate_size": config["intermediate_size"] * 2})
    with pytest.raises(UserError, match=r"has shape .* expected"):
        load_upstream(str(exported))
    edit(exported, config=config | {"num_layers": config["num_layers"] + 1})
    with pytest.raises(UserError, match="lacks the tensor"):
        load_upstream(str(exported))


def test_the_public_names_are_there() -> None:
    assert speechssl.load_upstream is load_upstream
    assert "tera/base" in speechssl.list_upstreams()
    assert {"ks", "sid", "asr"} <= set(speechssl.list_tasks())
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = speechssl.nothing


def test_lists_padding_and_single_waveforms_agree() -> None:
    upstream = load_upstream("tera/debug@random", normalization="utterance")
    waveforms = [torch.randn(16000), torch.randn(12000)]
    padded = torch.zeros(2, 16000)
    padded[0], padded[1, :12000] = waveforms[0], waveforms[1]
    a = upstream(waveforms)
    b = upstream(padded, torch.tensor([16000, 12000]))
    assert a.lengths.tolist() == b.lengths.tolist() == [101, 76]
    assert all(torch.equal(x, y) for x, y in zip(a.hidden_states, b.hidden_states, strict=True))


def test_a_run_directory_may_be_called_like_a_family(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exported.parent)
    exported.rename("tera")
    original = load_upstream("tera/debug@random3", normalization="utterance")
    for name in ("tera/export", "./tera", "tera:tera"):
        assert largest_difference(original, load_upstream(name)) == 0
    assert largest_difference(original, open_left(Path("tera"))) == 0
    with pytest.raises(UserError, match=r"for the folder tera say \./tera"):
        load_upstream("tera")
