"""`benchmark`: every task on every upstream, frozen or fine-tuned; finished rows are kept.

Of frozen upstreams utterances are encoded once, for all tasks, learning rates and seeds.
"""

import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.errors import UserError
from speechssl.files import read_json, write_json, write_text
from speechssl.hub import check_name, is_foreign
from speechssl.interfaces import BenchmarkTask
from speechssl.probe import agenda, encoders, leaderboard, modes, outcome, plan, result, room, rows, table
from speechssl.probe.representation import RepresentationMeasures
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
    board: dict[str, Any] | None = None,
    **encoding: Any,
) -> list[dict[str, Any]]:
    """Fill `run_dir/results.jsonl` and `results.md`; return the rows that were asked for, old and new.

    The arguments are the keys of `speechssl benchmark`, which `speechssl/conf/benchmark.yaml` explains; `encoding` are
    those that `speechssl.probe.encoders.EncodingSettings` holds.

    Raises:
        UserError: unknown names, folders without the needed labels, settings that do not fit.
    """
    plan.check_seeds(seeds)
    named = plan.read_upstreams(upstream)
    for name in named.values():
        check_name(name)
        if finetune and is_foreign(name):
            raise UserError(f"finetune=true is for models of this package, {name} is of another library; leave it out")
    mode = plan.finetuning_mode(finetune, preset, probe)
    overrides = plan.read_settings(named, settings)
    size = plan.every_task(tasks)
    wanted = tasks if size is None else plan.sized_tasks(size, data)
    chosen = plan.read_tasks(wanted, probe, label, task, mode)
    folders = plan.read_data(data, chosen)
    how = modes.mode_of(encoding, probe, finetuning if finetune else None, Path(run_dir))
    board_settings = leaderboard.read_settings(**(board or {}))
    bench = Bench(Path(run_dir), how, allow_unseen=probe.get("allow_unseen", False))
    work = bench.gather(folders, skip=size is not None)
    models = {label: encoders.Encoder(name, how.encoding, overrides[label]) for label, name in named.items()}
    for encoder in list(models.values())[1:]:
        encoder.check()  # rather than after hours of work on the first
    done = bench.run(models, work, seeds)
    leaderboard.write(Path(run_dir), list(bench.results), done, board_settings)
    order = [one.name for one in chosen]
    return sorted(done, key=lambda row: order.index(row["task"]))


@dataclass(frozen=True)
class Piece:
    """A task on a corpus."""

    plan: plan.TaskPlan
    corpus: Corpus
    task: BenchmarkTask


class Bench:
    """A benchmark's run directory.

    Args:
        run_dir: the folder.
        mode: how upstreams are used.
        allow_unseen: let pass what `BenchmarkTask.check` objects to in labels of dev and test.
    """

    def __init__(self, run_dir: Path, mode: modes.Mode, *, allow_unseen: bool = False):
        self.run_dir, self.mode, self.allow_unseen = run_dir, mode, allow_unseen
        self.results = rows.Results(run_dir)
        self.machine = environment()
        self.measures = RepresentationMeasures()

    def gather(self, folders: dict[str, list[plan.TaskPlan]], *, skip: bool) -> list[Piece]:
        """Return the tasks on their corpora, checked, those first that need every frame: means come with these.

        Args:
            folders: {folder: tasks on it}.
            skip: leave out, with a line that says why, what does not fit a corpus.
        """
        pieces: list[Piece] = []
        left_out: dict[tuple[str, str], str] = {}  # task and reason: the last of the folders
        for folder, plans in folders.items():
            corpus = open_corpus(folder)
            modes.warn_of_shared_audio(corpus)
            for one in plans:
                try:
                    pieces.append(self.build(one, corpus))
                except UserError as error:
                    if not skip:
                        raise
                    left_out[one.name, str(error)] = folder
        elsewhere = {piece.plan.name for piece in pieces}
        for (name, reason), folder in left_out.items():
            logger.info("task %s is left out%s: %s", name, f" on {folder}" if name in elsewhere else "", reason)
        if not pieces:
            raise UserError(f"no task fits {', '.join(folders)}: {next(iter(left_out))[1]}")
        return sorted(pieces, key=lambda piece: piece.plan.pooled)

    def build(self, one: plan.TaskPlan, corpus: Corpus) -> Piece:
        """Return a task on a corpus, checked."""
        modes.require_splits(corpus, "test")
        task = one.build(corpus)
        self.mode.check(task, corpus)
        if not self.allow_unseen:
            task.check()
        return Piece(one, corpus, task)

    def run(self, models: dict[str, encoders.Encoder], work: list[Piece], seeds: list[int]) -> list[dict[str, Any]]:
        """Return the rows of all upstreams, computing those that are missing."""
        found = []
        progress = agenda.Agenda(len(models) * len(work) * len(seeds))
        for label, encoder in models.items():
            planned = self._plan((label, encoder), work, seeds)
            room.check(trained for row, trained, _ in planned if not self.results.finished(row))
            for row, trained, piece in planned:
                with progress.item(piece.plan.name, done=self.results.finished(row)):
                    found.append(self.row(row, trained, piece))
                write_text(self.run_dir / "results.md", table.markdown(list(self.results)))
        return found

    def _plan(
        self, model: tuple[str, encoders.Encoder], work: list[Piece], seeds: list[int]
    ) -> list[tuple[dict[str, Any], modes.Trained, Piece]]:
        """Return the rows of one upstream as far as they are known beforehand, and what computes each."""
        label, encoder = model
        prepared: dict[Path, modes.Prepared] = {}
        planned = []
        for piece in work:
            corpus = piece.corpus
            if corpus.path not in prepared:
                prepared[corpus.path] = self.mode.on(encoder, corpus)
            make, sha256, about = prepared[corpus.path]
            about = about | ({"settings": encoder.overrides} if encoder.overrides else {})
            trained = make(piece.task)
            for seed in seeds:
                row = result.begin_row((label, encoder.name, sha256), piece.plan, corpus, seed, about)
                planned.append((row, trained, piece))
        return planned

    def row(self, row: dict[str, Any], trained: modes.Trained, piece: Piece) -> dict[str, Any]:
        """Return a finished row, or compute it."""
        if self.results.finished(row):
            logger.info("%s is already there", result.title(row))
            _clear(self.run_dir / result.run_folder(row))  # where a run was killed before it came to that
            return self.results.get(row)
        started = time.monotonic()
        folder = self._folder(row)
        made = trained.run(outcome.Place(folder, row["seed"], row["settings"], row["config"]))
        result.complete_row(row, piece.task, made, self.machine)
        row |= {"representation": self.measures.of(trained), "reproduce": result.reproduction(self.run_dir, row)}
        result.write_outcome(made, folder, row, result.meaning(piece.task, trained))
        row["seconds"] = round(time.monotonic() - started, 2)
        self.results.add(row)
        _clear(folder)
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


def _clear(folder: Path) -> None:
    """Remove what only an unfinished result needs: the row is safe, and `export/` has what was tested."""
    for spent in (*folder.glob("checkpoints"), *folder.glob("*/checkpoints"), *folder.glob("kept")):
        shutil.rmtree(spent)
