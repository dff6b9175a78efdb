"""Several trainings in a row: each stage has a run directory of its own, and the lineage is written down.

One stage trains in the run directory itself. More of them train in `stages/01-name/`, `stages/02-name/`, ...,
and `lineage.json` says what each was made from. A stage that has ended returns at once when it is run again,
so the same command continues wherever it was interrupted.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from speechssl import registry
from speechssl.files import read_json, sha256, write_json
from speechssl.interfaces import PretrainTask, Stage

WEIGHTS = Path("export", "model.safetensors")


def build_stages(family: str, upstream: dict[str, Any], task: dict[str, Any], seed: int) -> list[Stage]:
    """Build the model and its objective, with initial weights from the seed.

    A family that needs several trainings exports STAGES, a function of (upstream, **task arguments).
    """
    module = registry.module("upstream", family)
    factory = getattr(module, "STAGES", module.PRETRAIN_TASK)
    registry.check_arguments(factory, task, f"pretraining of {family}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = registry.build_upstream(family, upstream)
        built = factory(model, **task)
    return [Stage("pretrain", built)] if isinstance(built, PretrainTask) else list(built)


def stage_folders(stages: Sequence[Stage], run_dir: Path) -> dict[str, Path]:
    """Return {stage name: run directory}."""
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise ValueError(f"stages need different names, found {names}")
    for number, stage in enumerate(stages):
        unknown = set(stage.parents) - set(names[:number])
        if unknown:
            raise ValueError(f"stage {stage.name} reads {sorted(unknown)}, which no earlier stage is called")
    if len(stages) == 1:
        return {names[0]: run_dir}
    return {name: run_dir / "stages" / f"{number:02d}-{name}" for number, name in enumerate(names, start=1)}


def run_stages(
    stages: Sequence[Stage],
    run_dir: Path,
    train: Callable[[Stage, Path], None],
    *,
    config: dict[str, Any],
    data_fingerprint: str,
) -> None:
    """Train the stages in order and, where there are several, write `lineage.json` after each.

    Args:
        stages: what to run; a parent has to come before the stages that read its export.
        run_dir: of the whole run.
        train: trains one stage in a folder and leaves `export/` there.
        config: written to the lineage with each stage's own trainer settings.
        data_fingerprint: of the corpus.
    """
    folders = stage_folders(stages, run_dir)
    lineage: list[dict[str, Any]] = []
    for stage in stages:
        train(stage, folders[stage.name])
        if len(stages) > 1 and _is_first_rank():
            lineage.append(_entry(stage, folders, run_dir, lineage))
            common = {"config": config, "data_fingerprint": data_fingerprint}
            write_json(run_dir / "lineage.json", {**common, "stages": lineage})


def _is_first_rank() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0


def _entry(stage: Stage, folders: dict[str, Path], run_dir: Path, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    known = {entry["name"]: entry["sha256"] for entry in earlier}
    return {
        "name": stage.name,
        "folder": str(folders[stage.name].relative_to(run_dir)),
        "trainer": stage.trainer,
        "parents": [{"name": name, "sha256": known[name]} for name in stage.parents],
        "sha256": sha256(folders[stage.name] / WEIGHTS),
    }


def read_lineage(run_dir: Path) -> list[dict[str, Any]]:
    """Return the stages of a run's lineage, or an empty list for a run of one stage."""
    path = run_dir / "lineage.json"
    return read_json(path)["stages"] if path.is_file() else []
