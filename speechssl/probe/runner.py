"""`benchmark`: every task on every upstream, frozen or fine-tuned; finished rows are kept.

Of frozen upstreams utterances are encoded once, for all tasks, learning rates and seeds.
"""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.files import read_json, write_json, write_text
from speechssl.finetune.settings import read_settings
from speechssl.hub import check_name
from speechssl.interfaces import DownstreamTask
from speechssl.probe import encoders, modes, outcome, plan, result, rows, table
from speechssl.train.environment import environment

logger = logging.getLogger(__name__)


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
    settings: dict[str, Any],
    finetune: bool,
    preset: str | None,
    finetuning: dict[str, Any],
    **encoding: Any,
) -> list[dict[str, Any]]:
    """Fill `run_dir/results.jsonl` and `results.md`; return the rows that were asked for, old and new.

    The arguments are the keys of `speechssl benchmark`, which `speechssl/conf/benchmark.yaml` explains; `encoding` are
    those that `speechssl.probe.encoders.EncodingSettings` holds.

    Raises:
        UserError: unknown names, folders without the needed labels, settings that do not fit.
    """
    named = plan.read_upstreams(upstream)
    for name in named.values():
        check_name(name)
    mode = plan.finetuning_mode(finetune, preset, probe)
    overrides = plan.read_settings(named, settings)
    chosen = plan.read_tasks(tasks, probe, label, task, mode)
    folders = plan.read_data(data, chosen)
    encoding |= {"frame_dtype": probe["frame_dtype"]}
    bench = Bench(Path(run_dir), encoding, probe["standardize"], finetuning if finetune else None)
    work = [(open_corpus(folder), on_it) for folder, on_it in folders.items()]
    ready = [(corpus, [(one, bench.build(one, corpus)) for one in on_it]) for corpus, on_it in work]
    models = {label: encoders.Encoder(name, bench.encoding, overrides[label]) for label, name in named.items()}
    done = [row for label, encoder in models.items() for row in bench.run(label, encoder, ready, seeds)]
    order = [one.name for one in chosen]
    return sorted(done, key=lambda row: order.index(row["task"]))


Work = list[tuple[Corpus, list[tuple[plan.TaskPlan, DownstreamTask]]]]


class Bench:
    """A benchmark's run directory.

    Args:
        run_dir: the folder.
        encoding: fields of `speechssl.probe.encoders.EncodingSettings`; "cache" None = `run_dir/cache`.
        standardize: see `speechssl.probe.heads.Standardize`.
        finetuning: fields of `speechssl.finetune.settings.FinetuneSettings`; None = upstreams are frozen.
    """

    def __init__(self, run_dir: Path, encoding: dict[str, Any], standardize: bool, finetuning: dict[str, Any] | None):
        self.run_dir = run_dir
        cache = Path(encoding["cache"] or run_dir / "cache")
        self.encoding = encoders.EncodingSettings(**encoding | {"cache": cache})
        self.mode: modes.Mode = modes.Frozen(self.encoding, standardize)
        if finetuning is not None:
            self.mode = modes.Finetuned(self.encoding, read_settings(finetuning))
        self.results = rows.Results(run_dir)
        self.machine = environment()

    def build(self, one: plan.TaskPlan, corpus: Corpus) -> DownstreamTask:
        """Return a task on a corpus, checked."""
        task = one.build(corpus)
        self.mode.check(task, corpus)
        return task

    def run(self, label: str, encoder: encoders.Encoder, work: Work, seeds: list[int]) -> list[dict[str, Any]]:
        """Return the rows of one upstream, computing those that are missing."""
        found = []
        for corpus, tasks in work:
            make, sha256, about = self.mode.on(encoder, corpus)
            about |= {"settings": encoder.overrides} if encoder.overrides else {}
            for one, task in tasks:
                trained = make(task)
                for seed in seeds:
                    row = result.begin_row((label, encoder.name, sha256), one, corpus, seed, about)
                    found.append(self.row(row, trained))
        write_text(self.run_dir / "results.md", table.markdown(list(self.results)))
        return found

    def row(self, row: dict[str, Any], trained: modes.Trained) -> dict[str, Any]:
        """Return a finished row, or compute it."""
        if self.results.finished(row):
            logger.info("%s is already there", result.title(row))
            return self.results.get(row)
        started = time.monotonic()
        folder = self._folder(row)
        made = trained.run(outcome.Place(folder, row["seed"], row["settings"], row["config"]))
        result.complete_row(row, trained.task, made, self.machine)
        result.write_outcome(made, folder, row, getattr(trained.task, "classes", None))
        row["seconds"] = round(time.monotonic() - started, 2)
        self.results.add(row)
        for checkpoints in [*folder.glob("checkpoints"), *folder.glob("*/checkpoints")]:
            shutil.rmtree(checkpoints)  # the row is safe, `export/` has what was tested
        main = row["main_metric"]
        logger.info("%s: %s %.2f, %.0f s", result.title(row), main, row["metrics"][main], row["seconds"])
        return row

    def _folder(self, row: dict[str, Any]) -> Path:
        """Return the result's run directory, emptied if it was begun with other settings."""
        folder = self.run_dir / result.run_folder(row)
        begun = folder / "settings.json"
        if begun.is_file() and read_json(begun).get("settings") != row["settings"]:
            logger.info("%s was begun with other settings and starts again", result.title(row))
            shutil.rmtree(folder)
        write_json(begun, {"settings": row["settings"], **row["config"]})
        return folder
