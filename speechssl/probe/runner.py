"""`benchmark`: every task on every upstream; utterances are encoded once, finished rows kept."""

import logging
import math
import re
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.errors import UserError
from speechssl.files import digest, read_json, write_json, write_text
from speechssl.interfaces import DownstreamTask
from speechssl.probe import plan as plans
from speechssl.probe import rows, table
from speechssl.probe.encoders import Encoder, EncodingSettings
from speechssl.probe.train import Outcome, Probe, export_head
from speechssl.train.environment import environment

logger = logging.getLogger(__name__)

FORMAT = 1  # of a row; part of its settings digest


def benchmark(
    upstream: Any,
    tasks: Any,
    data: Any,
    run_dir: str | Path,
    *,
    seeds: list[int],
    label: Any,
    task: dict[str, Any],
    probe: dict[str, Any],
    cache: str | Path | None,
    device: str,
    max_seconds: float,
    num_workers: int,
) -> list[dict[str, Any]]:
    """Fill `run_dir/results.jsonl` and `results.md`; return the rows that were asked for, old and new.

    Args:
        upstream: a name, a list of names, or {label: name}.
        tasks: a task such as "ks" or "asr/debug", or a list of them.
        data: a prepared folder, several (folds), or {task: folder or folders}.
        run_dir: of the benchmark; every result has a run directory of its own below `<upstream>/<task>/`.
        seeds: of heads and batches.
        label: column with the labels, or {task: column}; None = the task's own.
        task: further constructor arguments of a single task.
        probe: "standardize", "frame_dtype", and replacements of the tasks' training settings.
        cache: folder of the feature caches; None = `run_dir/cache`.
        device: "cpu" or "cuda".
        max_seconds: padded audio per forward pass of the upstream.
        num_workers: processes that read audio.

    Raises:
        UserError: unknown names, folders without the needed labels, settings that do not fit.
    """
    run_dir = Path(run_dir)
    named = plans.read_upstreams(upstream)
    standardize = bool(probe["standardize"])
    chosen = plans.read_tasks(tasks, training=probe, standardize=standardize, label=label, extra=task)
    folders = plans.read_data(data, chosen)
    corpora = {path: open_corpus(path) for path in folders}
    built = {(path, p.name): p.build(corpora[path]) for path, ps in folders.items() for p in ps}
    encoding = EncodingSettings(
        check_device(device), Path(cache or run_dir / "cache"), probe["frame_dtype"], max_seconds, num_workers
    )
    bench = Bench(run_dir, encoding, standardize)
    done = []
    for name, source in named.items():
        encoder = Encoder(source, encoding)
        for path, on_it in folders.items():
            for plan in on_it:
                done += bench.run(name, encoder, plan, built[path, plan.name], corpora[path], seeds)
        write_text(run_dir / "results.md", table.markdown(list(bench.results)))
    order = {p.name: number for number, p in enumerate(chosen)}
    return sorted(done, key=lambda row: order[row["task"]])


def check_device(device: str) -> str:
    """Return the device; raises UserError where it is unknown or absent."""
    if device not in ("cpu", "cuda"):
        raise UserError(
            f"device expects cpu or cuda, found {device!r}; choose a GPU with CUDA_VISIBLE_DEVICES"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device=cuda, but PyTorch finds no CUDA device; use device=cpu, or see speechssl doctor"
        )
    return device


class Bench:
    """A benchmark's run directory."""

    def __init__(self, run_dir: Path, encoding: EncodingSettings, standardize: bool):
        self.run_dir, self.encoding, self.standardize = run_dir, encoding, standardize
        self.results = rows.Results(run_dir)
        self.environment = environment()

    def run(
        self,
        name: str,
        encoder: Encoder,
        plan: plans.TaskPlan,
        task: DownstreamTask,
        corpus: Corpus,
        seeds: list[int],
    ) -> list[dict[str, Any]]:
        """Return the rows of one upstream on one task and corpus, computing those that are missing."""
        cache, sha256 = encoder.on(corpus)
        probe = Probe(task, corpus, cache, self.standardize, self.encoding.device)
        found = []
        for seed in seeds:
            row = self._begin(name, encoder.name, sha256, plan, corpus, seed)
            if self.results.finished(row):
                logger.info("%s is already there", self._title(row))
                found.append(self.results.get(row))
                continue
            started = time.monotonic()
            folder = self._fresh_folder(row)
            outcome = probe.run(seed, folder, {"settings": row["settings"]}, row["config"])
            self._finish(row, task, outcome, folder)
            row["seconds"] = round(time.monotonic() - started, 2)
            self.results.add(row)
            shutil.rmtree(
                folder / "checkpoints", ignore_errors=True
            )  # the row is safe, and `export/` has the head
            logger.info(
                "%s: %s %.2f, %.0f s",
                self._title(row),
                task.monitor,
                row["metrics"][task.monitor],
                row["seconds"],
            )
            found.append(row)
        return found

    def _begin(
        self, name: str, source: str, sha256: str, plan: plans.TaskPlan, corpus: Corpus, seed: int
    ) -> dict[str, Any]:
        """Return what is known of a row beforehand; "settings" is a digest of all the result depends on."""
        arguments = dict(sorted(plan.arguments.items()))
        dtype = "float32" if plan.pooled else self.encoding.frame_dtype
        depends = [FORMAT, sha256, corpus.fingerprint, plan.name, arguments, self.standardize, dtype, seed]
        return {
            "upstream": name,
            "task": plan.name,
            "protocol": plan.protocol,
            "corpus": corpus.name,
            "view": corpus.view,
            "fold": corpus.fold,
            "seed": seed,
            "upstream_sha256": sha256,
            "corpus_fingerprint": corpus.fingerprint,
            "settings": digest(depends),
            "config": {
                "upstream": source,
                "data": str(corpus.path),
                "task": f"{plan.name}/{plan.size}",
                "arguments": arguments,
                "standardize": self.standardize,
                "frame_dtype": dtype,
                "device": self.encoding.device,
                "seed": seed,
            },
        }

    def _title(self, row: dict[str, Any]) -> str:
        place = "/".join(part for part in (row["corpus"], row["view"], row["fold"]) if part)
        return f"{row['upstream']} on {row['task']} ({row['protocol']}, {place}, seed {row['seed']})"

    def _fresh_folder(self, row: dict[str, Any]) -> Path:
        """Return the result's run directory, emptied if it was begun with other settings."""
        parts = [part for part in (row["corpus"], row["view"], row["fold"]) if part]
        name = "-".join([*parts, row["protocol"], f"seed{row['seed']}"])
        folder = self.run_dir / _file_name(row["upstream"]) / row["task"] / _file_name(name)
        begun = folder / "settings.json"
        if begun.is_file() and read_json(begun).get("settings") != row["settings"]:
            logger.info("%s was begun with other settings and starts again", self._title(row))
            shutil.rmtree(folder)
        write_json(begun, {"settings": row["settings"], **row["config"]})
        return folder

    def _finish(self, row: dict[str, Any], task: DownstreamTask, outcome: Outcome, folder: Path) -> None:
        """Write predictions and head, and complete the row."""
        grid, best = outcome.grid, outcome.grid.selected()
        rows.write_lines(folder / rows.PREDICTIONS, outcome.records)
        row |= {
            "metrics": outcome.metrics,
            "main_metric": task.monitor,
            "mode": task.mode,
            **rows.summarise(outcome.records, outcome.cuts.column("gender")),
            "dev": _finite(float(grid.best_value[best])),
            "lr": grid.lrs[best],
            "grid": {
                f"{lr:g}": _finite(value)
                for lr, value in zip(grid.lrs, grid.best_value.tolist(), strict=True)
            },
            "curves": {lr: [[step, _finite(v)] for step, v in curve] for lr, curve in grid.curves().items()},
            "layer_weights": grid.best[best].mix.weights.tolist(),
            "steps": task.steps,
            "best_step": int(grid.best_step[best]),
            "utterances": outcome.sizes,
            "unreadable": outcome.unreadable,
            "timing": {name: round(value, 2) for name, value in outcome.seconds.items()},
            "versions": {"speechssl": self.environment["speechssl"], **self.environment["packages"]},
            "commit": self.environment["commit"],
            "command": " ".join(sys.argv),
            "run": str(folder.relative_to(self.run_dir)),
        }
        description = {name: row[name] for name in ("upstream_sha256", "config", "lr", "best_step")}
        export_head(grid, folder, description)


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.,+=@-]", "_", text)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
