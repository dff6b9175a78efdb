"""Our models against the original code of their authors, on files that we wrote; and when that cannot be asked."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from speechssl import registry, testing
from speechssl.deploy import parity
from speechssl.deploy.conversion import convert
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.interfaces import Upstream
from speechssl.train.checkpoint import export_upstream
from speechssl.upstream.beats import original as beats
from speechssl.upstream.ssast import original as ssast

FILE = Path(__file__).parents[1] / "fixtures" / "tera_published.pt"


def random_model(name: str, **settings: object) -> Upstream:
    """Return a model with statistics of its own, whose every tensor is random."""
    upstream = testing.give_statistics(load_upstream(f"{name}@random", **settings))
    generator = torch.Generator().manual_seed(0)
    for parameter in upstream.parameters():
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return upstream


def test_tera_equals_s3prl_on_a_published_file(tmp_path: Path) -> None:
    pytest.importorskip("s3prl")
    record = convert("tera", FILE, tmp_path / "ours", against="original")
    asked = record["comparisons"][1]
    assert asked["against"] == "s3prl/upstream/tera"
    assert set(asked["versions"]) == {"s3prl", "torchaudio"}
    assert parity.worst(asked["states"]) < 1e-5


def test_ssast_with_a_corpus_of_its_own_equals_s3prl(timm: None, tmp_path: Path) -> None:
    """Mean and std, which the file does not hold, are folded into it: what others read is the same model."""
    pytest.importorskip("s3prl.upstream.ssast.expert", exc_type=ImportError)
    upstream = random_model("ssast/patch_tiny", mean=None, std=None, positions="aligned")
    assert abs(float(upstream.spectrogram.std) - 4.5689974) > 0.1
    export_upstream(upstream, tmp_path / "export")
    record = convert("ssast", tmp_path / "export", tmp_path / "a.pth", against="original")
    own, asked = record["comparisons"]
    assert parity.worst(own["states"]) < 1e-5
    assert parity.worst(asked["states"]) < 1e-5
    assert [state["state"] for state in asked["states"]] == list(range(1, 13))
    assert record["left_to_the_reader"] == {}


def test_beats_equals_speechbrain(tmp_path: Path) -> None:
    pytest.importorskip("speechbrain.lobes.models.beats", reason="speechbrain is not installed", exc_type=ImportError)
    export_upstream(random_model("beats/debug", mean=None, std=None), tmp_path / "export")
    record = convert("beats", tmp_path / "export", tmp_path / "a.pt", against="original")
    assert parity.worst(record["comparisons"][1]["states"]) < 1e-5


def test_sizes_that_the_original_does_not_have() -> None:
    with pytest.raises(UserError, match=r"2 layers of 48 \(3 heads\)"):
        ssast.settings(load_upstream("ssast/patch_debug@random").config)
    with pytest.raises(UserError, match="pre_norm"):
        beats.settings(load_upstream("beats/debug@random", pre_norm=True, deep_norm=False).config)


def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "speechbrain", "speechbrain.lobes.models.beats"):
        monkeypatch.setitem(sys.modules, name, None)
    config = load_upstream("ssast/patch_tiny@random").config
    with pytest.raises(UserError, match=r"pip install torchvision timm==0.4.5"):
        ssast.load(Path("a.pth"), config, load_upstream)
    with pytest.raises(UserError, match="pip install speechbrain"):
        beats.load(Path("a.pt"), load_upstream("beats/debug@random").config, load_upstream)
    other = ModuleType("timm")
    other.__version__ = "1.0.9"
    monkeypatch.setitem(sys.modules, "timm", other)
    with pytest.raises(UserError, match=r"timm 0.4.5, found 1.0.9"):
        ssast.load(Path("a.pth"), config, load_upstream)
    assert "torch._six" not in sys.modules


@pytest.mark.parametrize("family", ["tera", "ssast", "beats"])
def test_every_family_with_a_published_layout_names_its_original(family: str) -> None:
    module = registry.module("upstream", family)
    assert module.ORIGINAL.CODE
    assert module.ORIGINAL.FIRST in (0, 1)
