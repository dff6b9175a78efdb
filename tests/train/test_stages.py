"""Several stages in a row: what each is built from, what is refused, and their lineage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_training import Toy

from speechssl.errors import UserError
from speechssl.files import load_safetensors
from speechssl.interfaces import Parent, Stage
from speechssl.train.checkpoint import write_tensors
from speechssl.train.stages import build_work, left_digest, read_lineage, run_stages, stage_folders


class Runner:
    """Runs stages that leave the tensors of a toy, and remembers what it did."""

    def __init__(self, run_dir: Path, seed: int = 0) -> None:
        self.run_dir, self.seed, self.done = run_dir, seed, []
        self.stop_at = ""

    def execute(self, stage: Stage, folder: Path, parents: dict[str, Parent]) -> dict[str, Any]:
        if stage.name == self.stop_at:
            raise KeyboardInterrupt
        work = build_work(stage, parents, self.seed)
        self.done.append(stage.name)
        write_tensors(folder / "export" / "model.safetensors", work.state_dict())
        return {"parents": sorted(parents), "loss": 1.5}

    def run(self, *stages: Stage) -> None:
        run_stages(
            stages,
            self.run_dir,
            self.execute,
            open_left=lambda folder: load_safetensors(folder / "export" / "model.safetensors"),
            stage_settings=lambda stage: {"task": stage.settings},
            config={"seed": 1},
            data_fingerprint="abc",
        )


def stage(name: str, *parents: str, build: Callable | None = None, **settings: Any) -> Stage:
    return Stage(name, build or (lambda found: Toy()), list(parents), settings=settings)


def test_one_stage_uses_the_run_directory(tmp_path: Path) -> None:
    Runner(tmp_path).run(stage("pretrain"))
    assert (tmp_path / "export" / "model.safetensors").is_file()
    assert read_lineage(tmp_path) == []
    assert not (tmp_path / "stage.json").exists()


def test_several_stages_leave_a_lineage(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    runner.run(stage("tokenizer", codes=4), stage("model", "tokenizer"), stage("second", "tokenizer", "model"))
    assert runner.done == ["tokenizer", "model", "second"]
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    assert lineage["config"] == {"seed": 1}
    assert lineage["data_fingerprint"] == "abc"
    first, second, third = read_lineage(tmp_path)
    assert first["sha256"] == left_digest(tmp_path / "stages/01-tokenizer")
    assert first["settings"] == {"task": {"codes": 4}}
    assert second["folder"] == "stages/02-model"
    assert second["facts"] == {"parents": ["tokenizer"], "loss": 1.5}
    assert [parent["sha256"] for parent in third["parents"]] == [first["sha256"], second["sha256"]]


def test_a_stage_is_built_from_what_its_parents_left(tmp_path: Path) -> None:
    seen = []

    def build(parents: dict[str, Parent]) -> Toy:
        seen.append(parents["first"])
        return Toy()

    Runner(tmp_path).run(stage("first"), stage("second", "first", build=build))
    assert seen[0].sha256 == left_digest(tmp_path / "stages/01-first")
    assert seen[0].content.keys() == Toy().state_dict().keys()
    assert seen[0].facts["loss"] == 1.5


def test_every_stage_has_initial_weights_of_its_own() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    layer = {name: stage(name, build=lambda found: nn.Linear(3, 3)) for name in ("a", "b")}
    pairs = (("a", 1), ("a", 1), ("b", 1), ("a", 2))
    one, again, other, reseeded = (build_work(layer[name], {}, seed).state_dict() for name, seed in pairs)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(one["weight"], again["weight"])
    assert not torch.equal(one["weight"], other["weight"])
    assert not torch.equal(one["weight"], reseeded["weight"])


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    stages = [stage("first"), stage("second", "first"), stage("third", "second")]
    runner = Runner(tmp_path)
    runner.stop_at = "third"
    with pytest.raises(KeyboardInterrupt):
        runner.run(*stages)
    assert [entry["name"] for entry in read_lineage(tmp_path)] == ["first", "second"]
    again = Runner(tmp_path)
    again.run(*stages)
    assert again.done == ["third"]
    assert [entry["name"] for entry in read_lineage(tmp_path)] == ["first", "second", "third"]


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    stages = [stage("first"), stage("second", "first"), stage("third", "second")]
    Runner(tmp_path).run(*stages[:2])
    runner = Runner(tmp_path)
    runner.run(*stages)
    assert runner.done == ["third"]


def test_other_settings_and_changed_files_are_refused(tmp_path: Path) -> None:
    Runner(tmp_path).run(stage("first", codes=4), stage("second", "first"))
    with pytest.raises(UserError, match=r"task.codes was 4, is 5"):
        Runner(tmp_path).run(stage("first", codes=5), stage("second", "first"))
    changed = {name: tensor + 1 for name, tensor in Toy().state_dict().items()}
    write_tensors(tmp_path / "stages/01-first/export/model.safetensors", changed)
    with pytest.raises(UserError, match="01-first holds is not what it was"):
        Runner(tmp_path).run(stage("first", codes=4), stage("second", "first"))


def test_a_stage_from_another_parent_is_refused(tmp_path: Path) -> None:
    stages = [stage("first", build=lambda found: nn.Linear(3, 3)), stage("second", "first")]
    Runner(tmp_path).run(*stages)
    shutil.rmtree(tmp_path / "stages/01-first")
    with pytest.raises(UserError, match="02-second was made from another first"):
        Runner(tmp_path, seed=1).run(*stages)


def test_wrong_plans_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different names"):
        stage_folders([stage("a"), stage("a")], tmp_path)
    with pytest.raises(ValueError, match="no earlier stage"):
        stage_folders([stage("a", "b"), stage("b")], tmp_path)
