"""Compute a row of a benchmark anew from what the row itself says, and compare."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechssl import registry
from speechssl.data.cuts import open_corpus
from speechssl.errors import UserError
from speechssl.probe import encoders, modes, rows, runner
from speechssl.probe.plan import TaskPlan

COMPARED = ("metrics", "ci95", "dev", "lr", "grid", "curves", "layer_weights", "best_step", "groups")
OF_HEADS = ("standardize", "frame_dtype", "fixed_batch", "halving", "online")  # of a row's configuration


@dataclass(frozen=True)
class Reproduction:
    """A row, the same row computed anew, and where they differ.

    Attributes:
        row, again: the two.
        differences: {field: (old, new)}; empty = equal to the last digit.
        largest: difference of the main metric.
    """

    row: dict[str, Any]
    again: dict[str, Any]
    differences: dict[str, tuple[Any, Any]]
    largest: float


def find_row(name: str) -> dict[str, Any]:
    """Return the row "RUN_DIR/results.jsonl:KEY"; KEY is the beginning of its `settings`, or its number from 1."""
    path, _, key = name.rpartition(":")
    if not path:
        raise UserError(f"row={name} expects RUN_DIR/results.jsonl:KEY; every row has it in its field `reproduce`")
    found = rows.read_lines(Path(path))
    if key.isdigit() and 1 <= int(key) <= len(found):
        return found[int(key) - 1]
    chosen = [row for row in found if row["settings"].startswith(key)]
    if len(chosen) != 1:
        raise UserError(f"{path} has {len(chosen)} rows whose settings begin with {key!r}; expected one")
    return chosen[0]


def reproduce(name: str, out: str | Path, cache: str | None = None) -> Reproduction:
    """Compute the row `name` (see `find_row`) again in the run directory `out`.

    Args:
        cache: folder of cached features to use; None encodes everything anew.

    Raises:
        UserError: the upstream or the corpus is another one now.
    """
    row = find_row(name)
    config = row["config"]
    torch.set_num_threads(row.get("cpu_threads") or torch.get_num_threads())
    how = _mode(config, Path(out), cache)
    corpus = open_corpus(config["data"])
    _same("corpus", row["corpus_fingerprint"], corpus.fingerprint, config["data"])
    size = config["task"].partition("/")[2]
    pooled = registry.module("downstream", row["task"]).TASK.pooled
    plan = TaskPlan(row["task"], size, dict(config["arguments"]), row["protocol"], pooled)
    bench = runner.Bench(Path(out), how, allow_unseen=True)
    encoder = encoders.Encoder(config["upstream"], how.encoding, config.get("settings", {}))
    _same("upstream", row["upstream_sha256"], how.on(encoder, corpus)[1], config["upstream"])
    again = bench.run({row["upstream"]: encoder}, [bench.build(plan, corpus)], [row["seed"]])[0]
    differences = {key: (row[key], again[key]) for key in COMPARED if row.get(key) != again.get(key)}
    main = row["main_metric"]
    return Reproduction(row, again, differences, math.fabs(row["metrics"][main] - again["metrics"][main]))


def _mode(config: dict[str, Any], out: Path, cache: str | None) -> modes.Mode:
    encoding = {"cache": cache or out / "cache", "device": config["device"], "max_seconds": config["max_seconds"]}
    probe = {name: config.get(name, False) for name in OF_HEADS} | {"frame_dtype": config.get("frame_dtype", "float16")}
    return modes.mode_of(encoding | {"num_workers": 0}, probe, config.get("finetuning"), out)


def _same(what: str, before: str, now: str, where: str) -> None:
    if before != now:
        raise UserError(f"the {what} {where} is another one now: its digest is {now[:16]}, the row's is {before[:16]}")
