"""Several pieces of work in a row: each has a folder of its own, and the lineage is written down.

A one-stage family trains in the run directory itself. The stages of others lie in `stages/01-name/`, `02-name/`, ...; a
stage is built from what its parents left when its turn comes. `stage.json`, written last, says what a stage was made
from; one that is there returns at once when the same command is run again, so that a run continues wherever it was
interrupted, and may be extended by further stages. `lineage.json` and `lineage.md` tell the whole story.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import digest, read_json, sha256, write_json, write_text
from speechssl.interfaces import Builders, Labelling, Parent, PretrainTask, Stage, TokenizerFit
from speechssl.train.lineage_table import lineage_table
from speechssl.train.seeding import derived_seed
from speechssl.train.settings import check_settings, plain

LOGGER = logging.getLogger(__name__)
FORMAT = 1  # of stage.json and lineage.json
RECORD = "stage.json"
LABELS = "labels"

Work = PretrainTask | TokenizerFit | Labelling


def build_stages(family: str, upstream: dict[str, Any], task: dict[str, Any], seed: int) -> list[Stage]:
    """Return what the pretraining of a family consists of.

    A family that needs several stages exports STAGES, a function of (Builders, **task arguments).

    Args:
        family: name of the folder.
        upstream: constructor arguments of the model.
        task: those of the objective, or of STAGES.
        seed: of initial weights.
    """
    module = registry.module("upstream", family)
    if not hasattr(module, "STAGES"):
        registry.check_arguments(module.PRETRAIN_TASK, task, f"pretraining of {family}")

        def build(parents: dict[str, Parent]) -> PretrainTask:
            torch.manual_seed(seed)
            return module.PRETRAIN_TASK(registry.build_upstream(family, upstream), **task)

        return [Stage("pretrain", build, settings=task)]
    registry.check_arguments(module.STAGES, task, f"pretraining of {family}")
    builders = Builders(
        upstream=lambda: registry.build_upstream(family, upstream),
        tokenizer=lambda kind, **config: registry.build_tokenizer(family, kind, config),
    )
    return module.STAGES(builders, **task)


def build_work(stage: Stage, parents: dict[str, Parent], seed: int) -> Work:
    """Build a stage, with initial weights of its own from (seed, name); the global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, *stage.name.encode()))
        return stage.build(parents)


def stage_folders(stages: Sequence[Stage], run_dir: Path) -> dict[str, Path]:
    """Return {stage name: folder}."""
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
    execute: Callable[[Stage, Path, dict[str, Parent]], dict[str, Any]],
    *,
    open_left: Callable[[Path], Any],
    stage_settings: Callable[[Stage], dict[str, Any]],
    config: dict[str, Any],
    data_fingerprint: str,
) -> None:
    """Do the stages in order and, where there are several, write `lineage.json` after each.

    Args:
        stages: what to do; a parent has to come before the stages that read what it left.
        run_dir: of the whole run.
        execute: does one stage in a folder, given its parents, and returns what the lineage should tell.
        open_left: loads what a stage left in a folder.
        stage_settings: all that the result of a stage depends on, its parents apart.
        config: written to the lineage.
        data_fingerprint: of the corpus.

    Raises:
        UserError: a stage that was done with other settings or from other parents, or that has changed since.
    """
    folders = stage_folders(stages, run_dir)
    if len(stages) == 1:
        execute(stages[0], run_dir, {})
        return
    records: dict[str, dict[str, Any]] = {}
    for stage in stages:
        folder, settings = folders[stage.name], plain(stage_settings(stage))
        above = {name: records[name]["sha256"] for name in stage.parents}
        if (folder / RECORD).is_file():
            records[stage.name] = _known(folder, settings, above)
        else:
            LOGGER.info("stage %s of %d: %s", folder.name.partition("-")[0], len(stages), stage.name)
            parents = {name: _parent(name, folders[name], records[name], open_left) for name in stage.parents}
            facts = execute(stage, folder, parents)
            records[stage.name] = _record(stage, folder, settings, above, facts)
        if _is_first_rank():
            lineage = [_entry(folders[name].relative_to(run_dir), records[name]) for name in records]
            common = {"format": FORMAT, "config": config, "data_fingerprint": data_fingerprint}
            write_json(run_dir / "lineage.json", {**common, "stages": lineage})
            write_text(run_dir / "lineage.md", lineage_table(lineage))


def left_digest(folder: Path) -> str:
    """Return the hash of what a stage left: its exported tensors, or its labels."""
    if (folder / LABELS).is_dir():
        return str(read_json(folder / LABELS / "labels.json")["sha256"])
    files = sorted((folder / "export").glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder / 'export'} holds no tensors; remove {folder} and run the same command again")
    return digest({path.name: sha256(path) for path in files})


def read_lineage(run_dir: Path) -> list[dict[str, Any]]:
    """Return the stages of a run's lineage, or an empty list for a run of one stage."""
    path = run_dir / "lineage.json"
    return read_json(path)["stages"] if path.is_file() else []


def _known(folder: Path, settings: dict[str, Any], parents: dict[str, str]) -> dict[str, Any]:
    """Return the record of a stage that has been done, after checking that it is the one that is asked for."""
    record = read_json(folder / RECORD)
    check_settings(record["settings"], settings, folder)
    for name, found in parents.items():
        if record["parents"].get(name) != found:
            raise UserError(
                f"{folder} was made from another {name} (sha256 {record['parents'].get(name)}, now {found}); "
                f"remove {folder} and all later stages, and run the same command again"
            )
    if left_digest(folder) != record["sha256"]:
        raise UserError(
            f"what {folder} holds is not what it was when the stage ended (sha256 differs); "
            f"remove {folder} and all later stages, and run the same command again"
        )
    return record


def _parent(name: str, folder: Path, record: dict[str, Any], open_left: Callable[[Path], Any]) -> Parent:
    return Parent(name, open_left(folder), record["sha256"], record["facts"])


def _record(
    stage: Stage, folder: Path, settings: dict[str, Any], parents: dict[str, str], facts: dict[str, Any]
) -> dict[str, Any]:
    record = {
        "format": FORMAT,
        "name": stage.name,
        "parents": parents,
        "settings": settings,
        "facts": plain(facts),
        "sha256": left_digest(folder),
    }
    if _is_first_rank():
        write_json(folder / RECORD, record)
    return record


def _entry(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    parents = [{"name": name, "sha256": found} for name, found in record["parents"].items()]
    return {"name": record["name"], "folder": str(folder), **record, "parents": parents}


def _is_first_rank() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
