"""One result of a benchmark as a row and as files."""

import math
import re
import shlex
from functools import lru_cache
from pathlib import Path
from typing import Any

from speechssl import files as hashing
from speechssl.data.cuts import Corpus
from speechssl.files import digest, write_json
from speechssl.finetune.model import Head
from speechssl.interfaces import BenchmarkTask, Upstream
from speechssl.metrics.weighted import weighted
from speechssl.probe.outcome import Outcome
from speechssl.probe.plan import TaskPlan
from speechssl.probe.rows import PREDICTIONS, RESULTS, summarise, write_lines
from speechssl.train.checkpoint import export_upstream, on_cpu, write_tensors

FORMAT = 2  # of a row, part of its settings digest; and of a head's export/config.json
KEPT = ("upstream_sha256", "config", "corpus", "view", "fold", "lr", "best_step", "choices")  # of a row, with its head
SPEED = ("num_workers", "save_every")  # settings of fine-tuning that change no result


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
        encoding: "device" and, of frozen features, how heads are trained on them, or else "finetuning".
    """
    label, name, sha256 = upstream
    arguments = dict(sorted(plan.arguments.items()))
    files = {path: content_digest(path) for path in _files(plan.arguments)}
    known = [arguments, files] if files else [arguments]
    if plan.pooled and "frame_dtype" in encoding:
        encoding = encoding | {"frame_dtype": "float32"}
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
        "settings": digest([FORMAT, sha256, corpus.fingerprint, plan.name, known, *_relevant(encoding), seed]),
        "config": {
            "upstream": name,
            "data": str(corpus.path),
            "task": f"{plan.name}/{plan.size}",
            "arguments": arguments,
            **({"files": files} if files else {}),
            **encoding,
            "seed": seed,
        },
    }


def _files(value: Any) -> list[str]:
    """Return the files among arguments, such as a lexicon or a language model: results depend on their content."""
    if isinstance(value, dict | list | tuple):
        return [path for one in (value.values() if isinstance(value, dict) else value) for path in _files(one)]
    return [value] if isinstance(value, str) and Path(value).is_file() else []


@lru_cache
def content_digest(path: str) -> str:
    """Return the hash of a file's content, read once."""
    return hashing.sha256(path)


def _relevant(encoding: dict[str, Any]) -> list[Any]:
    """Return what of the encoding a result depends on."""
    if "finetuning" not in encoding:
        return [encoding[name] for name in ("standardize", "frame_dtype", "fixed_batch", "halving", "online")]
    return [{key: value for key, value in encoding["finetuning"].items() if key not in SPEED}]


def title(row: dict[str, Any]) -> str:
    """Return the name of a result for messages."""
    return f"{row['upstream']} on {row['task']} ({row['protocol']}, {'/'.join(_data(row))}, seed {row['seed']})"


def run_folder(row: dict[str, Any]) -> str:
    """Return the run directory of a result, relative to that of the benchmark."""
    name = "-".join([*_data(row), row["protocol"], f"seed{row['seed']}"])
    return "/".join(re.sub(r"[^\w.,+=@-]", "_", part) for part in (row["upstream"], row["task"], name))


def reproduction(run_dir: Path, row: dict[str, Any]) -> str:
    """Return the command that computes a row anew and compares."""
    where = f"{run_dir / RESULTS}:{row['settings']}"
    return shlex.join(["speechssl", "reproduce", f"row={where}", "out=runs/reproduced"])


def _data(row: dict[str, Any]) -> list[str]:
    return [part for part in (row["corpus"], row["view"], row["fold"]) if part]


def complete_row(row: dict[str, Any], task: BenchmarkTask, outcome: Outcome, machine: dict[str, Any]) -> None:
    """Add what came out to a row.

    Args:
        row: changed in place.
        task: gives name and direction of the main metric.
        outcome: of its training.
        machine: content of environment.json.
    """
    chosen, found = outcome.selection, outcome.scored
    rebuilt = None if found.main is None else weighted(task.monitor, found.records)
    cells = 0 if rebuilt is None else rebuilt.cells
    figures = summarise(found.records, found.groups, task.mode, found.main, cells)
    chance = task.chance()
    row |= {
        "metrics": outcome.metrics,
        "main_metric": task.monitor,
        "mode": task.mode,
        "superb": {f"{task.name}.{name}": mode for name, mode in task.superb.items()},
        **figures,
        "chance": chance,
        "above_chance": above(figures["ci95"], chance, task.mode),
        "dev": _finite(chosen.dev),
        "dev_metric": chosen.metric or task.monitor,
        "lr": chosen.lr,
        "grid": {lr: _finite(value) for lr, value in chosen.grid.items()},
        "curves": {lr: [[step, _finite(v)] for step, v in curve] for lr, curve in chosen.curves.items()},
        "layer_weights": chosen.layer_weights,
        "layer_curve": chosen.layer_curve,
        "steps": chosen.steps,
        "epochs": chosen.epochs,
        "best_step": chosen.best_step,
        "dropped": chosen.dropped,
        "utterances": outcome.sizes,
        "unreadable": outcome.unreadable,
        "choices": {},
        **outcome.notes,
        "timing": {name: round(value, 2) for name, value in outcome.seconds.items()},
        "versions": {"speechssl": machine["speechssl"], **machine["packages"]},
        "cpu_threads": machine["cpu_threads"],
        "commit": machine["commit"],
        "command": machine["command"],
        "run": run_folder(row),
    }


def above(interval: list[float], chance: float | None, mode: str) -> bool | None:
    """Return whether a whole interval is better than chance; None where chance is not known."""
    if chance is None:
        return None
    return interval[0] > chance if mode == "max" else interval[1] < chance


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def meaning(task: BenchmarkTask, trained: Any) -> dict[str, Any]:
    """Return what it takes, beside tensors, to use a head without its corpus.

    "classes" are the names of the head's outputs, "facts" what the task took from train, "statistics" the corpus mean
    and std that a frozen upstream took, if it did.

    Args:
        task: that was trained.
        trained: a `speechssl.probe.modes.Trained`.
    """
    cache = getattr(trained, "cache", None)
    upstream: Upstream | None = None if cache is None else cache.upstream
    found: dict[str, Any] = {
        "classes": getattr(task, "classes", None) or getattr(task, "symbols", None),
        "facts": getattr(task, "facts", {}),
    }
    if upstream is not None and upstream.corpus_statistics is not None:
        found["statistics"] = [values.flatten().tolist() for values in upstream.corpus_statistics]
    return found


def write_outcome(outcome: Outcome, folder: Path, row: dict[str, Any], meaning: dict[str, Any]) -> None:
    """Write the predictions on test, and what was tested to `export/`.

    A head on frozen features is `model.safetensors` and `config.json`. A fine-tuned upstream is an exported folder that
    `load_upstream` reads, with its head as `head.safetensors` and `head.json` beside it; where its family has a place
    for that head, the exported model has it as its classifier too. Of a task that trains nothing there is `config.json`
    alone. `speechssl.deploy.trained` reads all of them.
    """
    write_lines(folder / PREDICTIONS, outcome.scored.records)
    frozen, export = outcome.upstream is None, folder / "export"
    about = {name: row[name] for name in KEPT} | meaning
    if frozen and (place := _from_anywhere(row["config"]["upstream"])):
        about["upstream_path"] = place
    if outcome.head is None:
        write_json(export / "config.json", {"format": FORMAT, **about, "layer": outcome.notes["layer"]})
        return
    if outcome.upstream is not None:
        training = {name: row[name] for name in ("task", "protocol", "corpus", "view", "fold", "seed", "settings")}
        export_upstream(_with_head(outcome.upstream, outcome.head), export, training=training | about)
    write_tensors(export / ("model.safetensors" if frozen else "head.safetensors"), on_cpu(outcome.head.state_dict()))
    write_json(export / ("config.json" if frozen else "head.json"), {"format": FORMAT, **about})


def _from_anywhere(name: str) -> str:
    """Return the name of an upstream with its path, or that of a file or model folder in it, made absolute.

    Without either it is "".
    """
    if Path(name).exists():
        return str(Path(name).resolve())
    family, *parts = name.split(":")
    there = [Path(part).is_file() or Path(part, "config.json").is_file() for part in parts]
    found = [str(Path(part).resolve()) if is_there else part for part, is_there in zip(parts, there, strict=True)]
    return ":".join([family, *found]) if any(there) else ""


def _with_head(upstream: Upstream, head: Head) -> Upstream:
    """Return a fine-tuned upstream with its head as a classifier of its own, or as it is where that cannot be."""
    linear = head.mean_classifier
    found = None if linear is None else upstream.with_classifier(linear.weight, linear.bias)
    return upstream if found is None else found
