"""One result of a benchmark: where it is made, what came out, and its row."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from speechssl.data.cuts import Corpus, CutTable
from speechssl.files import atomic_path, digest, write_json
from speechssl.interfaces import DownstreamTask
from speechssl.probe.grid import Grid
from speechssl.probe.plan import TaskPlan
from speechssl.probe.rows import PREDICTIONS, summarise, write_lines

FORMAT = 1  # of a row, part of its settings digest; and of a head's export/config.json


@dataclass(frozen=True)
class Place:
    """The run directory of a result.

    Attributes:
        folder: None keeps nothing.
        seed: of head and batches.
        settings: digest of all that the result depends on; a training begun with others is not continued.
        config: for people.
    """

    folder: Path | None
    seed: int
    settings: str
    config: dict[str, Any]


@dataclass
class Outcome:
    """What one grid of heads gave.

    Attributes:
        grid: the trained heads with their dev curves.
        metrics: of the selected head on test.
        records: per test utterance, in the order of `cuts`.
        cuts: the test utterances.
        sizes: utterances per split.
        unreadable: utterances left out of all splits.
        seconds: wall time of features, training and test.
    """

    grid: Grid
    metrics: dict[str, float]
    records: list[dict[str, Any]]
    cuts: CutTable
    sizes: dict[str, int]
    unreadable: int
    seconds: dict[str, float]


def begin_row(
    upstream: tuple[str, str, str],
    plan: TaskPlan,
    corpus: Corpus,
    seed: int,
    encoding: dict[str, Any],
) -> dict[str, Any]:
    """Return what is known of a row beforehand; "settings" is a digest of all that the result depends on.

    Args:
        upstream: label, name and sha256 of the weights.
        plan: the task.
        corpus: the data.
        seed: of head and batches.
        encoding: "standardize", "frame_dtype" and "device".
    """
    label, name, sha256 = upstream
    arguments = dict(sorted(plan.arguments.items()))
    encoding = encoding | ({"frame_dtype": "float32"} if plan.pooled else {})
    relevant = [encoding["standardize"], encoding["frame_dtype"]]
    return {
        "upstream": label,
        "task": plan.name,
        "protocol": plan.protocol,
        "corpus": corpus.name,
        "view": corpus.view,
        "fold": corpus.fold,
        "seed": seed,
        "upstream_sha256": sha256,
        "corpus_fingerprint": corpus.fingerprint,
        "settings": digest([FORMAT, sha256, corpus.fingerprint, plan.name, arguments, *relevant, seed]),
        "config": {
            "upstream": name,
            "data": str(corpus.path),
            "task": f"{plan.name}/{plan.size}",
            "arguments": arguments,
            **encoding,
            "seed": seed,
        },
    }


def title(row: dict[str, Any]) -> str:
    """Return the name of a result for messages."""
    return f"{row['upstream']} on {row['task']} ({row['protocol']}, {'/'.join(_data(row))}, seed {row['seed']})"


def run_folder(row: dict[str, Any]) -> str:
    """Return the run directory of a result, relative to that of the benchmark."""
    name = "-".join([*_data(row), row["protocol"], f"seed{row['seed']}"])
    return "/".join(re.sub(r"[^\w.,+=@-]", "_", part) for part in (row["upstream"], row["task"], name))


def _data(row: dict[str, Any]) -> list[str]:
    return [part for part in (row["corpus"], row["view"], row["fold"]) if part]


def complete_row(row: dict[str, Any], task: DownstreamTask, outcome: Outcome, machine: dict[str, Any]) -> None:
    """Add what came out to a row.

    Args:
        row: changed in place.
        task: gives name and direction of the main metric.
        outcome: of its training.
        machine: content of environment.json.
    """
    grid, best = outcome.grid, outcome.grid.selected()
    row |= {
        "metrics": outcome.metrics,
        "main_metric": task.monitor,
        "mode": task.mode,
        **summarise(outcome.records, outcome.cuts.column("gender")),
        "dev": _finite(float(grid.best_value[best])),
        "lr": grid.lrs[best],
        "grid": {f"{lr:g}": _finite(v) for lr, v in zip(grid.lrs, grid.best_value.tolist(), strict=True)},
        "curves": {lr: [[step, _finite(v)] for step, v in curve] for lr, curve in grid.curves().items()},
        "layer_weights": grid.best[best].mix.weights.tolist(),
        "steps": task.steps,
        "best_step": int(grid.best_step[best]),
        "utterances": outcome.sizes,
        "unreadable": outcome.unreadable,
        "timing": {name: round(value, 2) for name, value in outcome.seconds.items()},
        "versions": {"speechssl": machine["speechssl"], **machine["packages"]},
        "commit": machine["commit"],
        "command": machine["command"],
        "run": run_folder(row),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def write_outcome(outcome: Outcome, folder: Path, row: dict[str, Any]) -> None:
    """Write the predictions on test, and the selected head with its standardisation to `export/`."""
    write_lines(folder / PREDICTIONS, outcome.records)
    grid = outcome.grid
    state = {f"probe.{k}": v for k, v in grid.best[grid.selected()].state_dict().items()}
    if grid.standardize is not None:
        state |= {f"standardize.{k}": v for k, v in grid.standardize.state_dict().items()}
    with atomic_path(folder / "export" / "model.safetensors") as temporary:
        save_file({name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}, temporary)
    description = {name: row[name] for name in ("upstream_sha256", "config", "lr", "best_step")}
    write_json(folder / "export" / "config.json", {"format": FORMAT, **description})
