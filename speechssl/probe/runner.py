"""`benchmark`: every task on every upstream; utterances are encoded once, finished rows kept."""

import logging
import shutil
import time
from pathlib import Path
from typing import Any

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.files import read_json, write_json, write_text
from speechssl.hub import check_name
from speechssl.interfaces import DownstreamTask
from speechssl.probe import encoders, plan, result, rows, table
from speechssl.probe.train import Probe
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
    **encoding: Any,
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
        encoding: the other fields of `speechssl.probe.encoders.EncodingSettings`.

    Raises:
        UserError: unknown names, folders without the needed labels, settings that do not fit.
    """
    named = plan.read_upstreams(upstream)
    for name in named.values():
        check_name(name)
    chosen = plan.read_tasks(tasks, probe, label, task)
    folders = plan.read_data(data, chosen)
    bench = Bench(Path(run_dir), probe["standardize"], encoding | {"frame_dtype": probe["frame_dtype"]})
    work = [(open_corpus(folder), on_it) for folder, on_it in folders.items()]
    ready = [(corpus, [(one, one.build(corpus)) for one in on_it]) for corpus, on_it in work]
    done = [row for name, source in named.items() for row in bench.run(name, source, ready, seeds)]
    order = [one.name for one in chosen]
    return sorted(done, key=lambda row: order.index(row["task"]))


Work = list[tuple[Corpus, list[tuple[plan.TaskPlan, DownstreamTask]]]]


class Bench:
    """A benchmark's run directory.

    Args:
        run_dir: the folder.
        standardize: see `speechssl.probe.heads.Standardize`.
        encoding: fields of `speechssl.probe.encoders.EncodingSettings`; "cache" None = `run_dir/cache`.
    """

    def __init__(self, run_dir: Path, standardize: bool, encoding: dict[str, Any]):
        self.run_dir, self.standardize = run_dir, standardize
        cache = Path(encoding["cache"] or run_dir / "cache")
        self.encoding = encoders.EncodingSettings(**encoding | {"cache": cache})
        self.results = rows.Results(run_dir)
        self.machine = environment()

    def run(self, label: str, name: str, work: Work, seeds: list[int]) -> list[dict[str, Any]]:
        """Return the rows of one upstream, computing those that are missing."""
        encoder, found = encoders.Encoder(name, self.encoding), []
        own = {"frame_dtype": self.encoding.frame_dtype, "device": self.encoding.device}
        for corpus, tasks in work:
            cache, sha256 = encoder.on(corpus)
            for one, task in tasks:
                probe = Probe(task, corpus, cache, self.standardize, self.encoding.device)
                for seed in seeds:
                    encoding = {"standardize": self.standardize, **own}
                    row = result.begin_row((label, name, sha256), one, corpus, seed, encoding)
                    found.append(self.row(row, probe))
        write_text(self.run_dir / "results.md", table.markdown(list(self.results)))
        return found

    def row(self, row: dict[str, Any], probe: Probe) -> dict[str, Any]:
        """Return a finished row, or compute it."""
        if self.results.finished(row):
            logger.info("%s is already there", result.title(row))
            return self.results.get(row)
        started = time.monotonic()
        folder = self._folder(row)
        outcome = probe.run(result.Place(folder, row["seed"], row["settings"], row["config"]))
        result.complete_row(row, probe.task, outcome, self.machine)
        result.write_outcome(outcome, folder, row)
        row["seconds"] = round(time.monotonic() - started, 2)
        self.results.add(row)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # the row is safe, `export/` has the head
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
