"""Encoders for X-ARES: what it asks of one, written out; its own checker and file loading where it is installed."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from speechssl import testing
from speechssl.bridges import xares
from speechssl.errors import UserError
from speechssl.hub import load_upstream


class FilterBankEncoder(xares.Wrapped):
    upstream = "fbank"


def of(run: Path, **attributes: object) -> xares.Wrapped:
    return type("SomeEncoder", (xares.Wrapped,), {"upstream": str(run), **attributes})()


def check_protocol(encoder: nn.Module) -> None:
    """What X-ARES's checker looks at."""
    assert type(encoder).__name__.endswith("Encoder")
    assert isinstance(encoder, nn.Module)
    found = encoder(torch.randn(2, 50000))
    assert found.dim() == 3
    assert (found.shape[0], found.shape[2]) == (2, encoder.output_dim)
    assert abs(found.shape[1] * encoder.hop_size_in_ms - 1000 * 50000 / encoder.sampling_rate) <= 200


def test_protocol(run_directories: dict[str, Path]) -> None:
    for encoder in (FilterBankEncoder(), *map(of, run_directories.values())):
        check_protocol(encoder)


def test_values(run_dir: Path) -> None:
    batch = torch.stack(testing.speech_like([8000, 8000]))
    states = load_upstream(str(run_dir))(batch).hidden_states
    assert torch.equal(of(run_dir).train()(batch), states[-1])
    assert torch.equal(of(run_dir, layer=1)(batch), states[1])
    torch.testing.assert_close(of(run_dir, layer="mean")(batch), sum(states) / len(states))
    assert of(run_dir)(batch[0]).shape == (1, *states[-1].shape[1:])


def test_settings(run_directories: dict[str, Path]) -> None:
    wide = of(run_directories["ssast"], settings={"frequency_pooling": "concat"})
    assert wide.output_dim > of(run_directories["ssast"]).output_dim
    check_protocol(wide)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"upstream": ""}, 'SomeEncoder does not say which encoder it is; set upstream = "RUN_DIR"'),
        ({"layer": 3}, r'expected a layer from 0 to 2, -1 for the last, or "mean"; found 3'),
        ({"layer": "last"}, "found 'last'"),
    ],
)
def test_what_is_wrong(run_dir: Path, attributes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        of(run_dir, **attributes)


def test_the_benchmarks_own_check(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file as the page shows it, found and checked by the package."""
    checker = pytest.importorskip("xares.audio_encoder_checker", reason="the package xares is not installed")
    from xares.utils import attr_from_py_path

    (tmp_path / "mine_for_xares.py").write_text(
        f"from speechssl.bridges import xares\n\nclass MyTeraEncoder(xares.Wrapped):\n    upstream = {str(run_dir)!r}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    encoder = attr_from_py_path("mine_for_xares.py", endswith="Encoder")()
    assert type(encoder).__name__ == "MyTeraEncoder"
    assert checker.check_audio_encoder(encoder)
    assert not checker.check_audio_encoder(nn.Linear(2, 2))
