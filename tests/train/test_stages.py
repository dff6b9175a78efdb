"""Several trainings in a row, and their lineage."""

import json
from pathlib import Path

import pytest
from toy_training import Toy

from speechssl.files import sha256
from speechssl.interfaces import Stage
from speechssl.train.checkpoint import write_tensors
from speechssl.train.stages import read_lineage, run_stages, stage_folders


def leave_export(stage: Stage, folder: Path) -> None:
    (folder / "export").mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "export" / "model.safetensors", stage.task.state_dict())


def test_one_stage_uses_the_run_directory(tmp_path: Path) -> None:
    run_stages([Stage("pretrain", Toy())], tmp_path, leave_export, config={}, data_fingerprint="f")
    assert (tmp_path / "export" / "model.safetensors").is_file()
    assert read_lineage(tmp_path) == []


def test_several_stages_leave_a_lineage(tmp_path: Path) -> None:
    order = []

    def train(stage: Stage, folder: Path) -> None:
        order.append(folder.name)
        leave_export(stage, folder)

    stages = [
        Stage("tokenizer", Toy()),
        Stage("model", Toy(), trainer={"max_steps": 3}, parents=["tokenizer"]),
        Stage("second", Toy(), parents=["tokenizer", "model"]),
    ]
    run_stages(stages, tmp_path, train, config={"seed": 1}, data_fingerprint="abc")
    assert order == ["01-tokenizer", "02-model", "03-second"]
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    assert lineage["config"] == {"seed": 1}
    assert lineage["data_fingerprint"] == "abc"
    first, second, third = read_lineage(tmp_path)
    assert first["sha256"] == sha256(tmp_path / "stages/01-tokenizer/export/model.safetensors")
    assert second["trainer"] == {"max_steps": 3}
    assert second["folder"] == "stages/02-model"
    assert [parent["sha256"] for parent in third["parents"]] == [first["sha256"], second["sha256"]]


def test_an_interrupted_stage_keeps_the_lineage_of_those_before(tmp_path: Path) -> None:
    def train(stage: Stage, folder: Path) -> None:
        if stage.name == "second":
            raise KeyboardInterrupt
        leave_export(stage, folder)

    stages = [Stage("first", Toy()), Stage("second", Toy())]
    with pytest.raises(KeyboardInterrupt):
        run_stages(stages, tmp_path, train, config={}, data_fingerprint="f")
    assert [entry["name"] for entry in read_lineage(tmp_path)] == ["first"]


def test_wrong_plans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names"):
        stage_folders([Stage("a", Toy()), Stage("a", Toy())], tmp_path)
    with pytest.raises(ValueError, match="no earlier stage"):
        stage_folders([Stage("a", Toy(), parents=["b"]), Stage("b", Toy())], tmp_path)
