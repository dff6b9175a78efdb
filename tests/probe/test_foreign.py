"""Models of other libraries in the benchmark: their settings, and what they cannot do."""

from pathlib import Path
from typing import Any

import pytest
import torch

from speechssl import hub, registry
from speechssl.commands.main import main
from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.interfaces import Upstream
from speechssl.probe import plan
from speechssl.probe.rows import read_lines


class Library:
    """Stands for another library: one model, one setting."""

    def check(self, name: str) -> None:
        if name != "toy":
            raise UserError(f"the library has no {name}")

    def load(self, name: str, trust: bool = False, **settings: Any) -> Upstream:
        if settings:
            raise UserError(f"{name} does not take {', '.join(settings)}")
        upstream = hub.load_upstream("fbank_no_cmvn")
        upstream.config = {"model": name, "trust": trust}
        return upstream


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.module("upstream", "hf"), "FOREIGN", Library())


def test_names_and_settings_reach_the_library() -> None:
    assert hub.is_foreign("hf:toy")
    assert not hub.is_foreign("fbank")
    assert not hub.is_foreign("ssast/frame_debug:file.pth")
    assert hub.load_upstream("hf:toy").family == "hf"
    assert hub.load_upstream("hf:toy", trust=True).config["trust"]
    assert plan.read_settings({"a": "hf:toy", "b": "fbank"}, {"trust": True}) == {"a": {"trust": True}, "b": {}}
    with pytest.raises(UserError, match="no other"):
        hub.check_name("hf:other")


def test_rows_of_a_foreign_model(words: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["benchmark", "upstream=[hf:toy,fbank_no_cmvn]", "tasks=ks/debug", f"data={words.path}", "num_threads=1"]
    command += [f"run_dir={tmp_path}", "probe.steps=20", "probe.eval_every=10", "settings.trust=true"]
    main(command)
    ours, plain = read_lines(tmp_path / "results.jsonl")
    assert ours["upstream"] == "hf:toy"
    assert ours["config"]["settings"] == {"trust": True}
    assert ours["metrics"] == plain["metrics"]
    assert ours["upstream_sha256"] != plain["upstream_sha256"]
    with pytest.raises(SystemExit):
        main([*command, "finetune=true"])
    assert "of another library" in capsys.readouterr().err
    assert torch.is_grad_enabled()
