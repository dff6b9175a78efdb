"""One fine-tuning result: train every learning rate, select as the settings say, read test once.

For a task with given folds (`refit`), dev is part of the published training data: where dev has selected something,
training starts anew on train and dev together, as long as was best; where nothing is to be selected, it is so from the
start.
"""

import math
import time
from dataclasses import replace

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.finetune.objective import Finetuning
from speechssl.finetune.scoring import Scoring
from speechssl.finetune.settings import FinetuneSettings
from speechssl.finetune.stream import join_examples
from speechssl.finetune.training import Training
from speechssl.interfaces import DownstreamTask, Examples, Upstream
from speechssl.probe import grid, outcome, rows


class Finetuner:
    """A task on one upstream, all of which is trained.

    Args:
        task: the task on its corpus.
        corpus: where utterances come from.
        upstream: stays as it is.
        settings: of fine-tuning.
        device: "cpu" or "cuda".
        max_seconds: padded audio per batch that is scored.
    """

    def __init__(
        self,
        task: DownstreamTask,
        corpus: Corpus,
        upstream: Upstream,
        settings: FinetuneSettings,
        *,
        device: str,
        max_seconds: float,
    ):
        self.task, self.corpus, self.upstream, self.settings = task, corpus, upstream, settings
        self.device, self.max_seconds = device, max_seconds

    def run(self, place: outcome.Place) -> outcome.Outcome:
        """Train, select and test; an interrupted training is continued."""
        started = time.monotonic()
        train = self.task.dataset("train")
        dev = self.task.dataset("dev") if "dev" in self.corpus.splits else None
        training = Training(self.task, self.upstream, self.settings, self.device, place)
        both = dev is not None and self.task.refit
        refit = both and self.settings.selects
        scoring = None if dev is None or (both and not refit) else self._scoring(dev)
        examples = join_examples([train, dev]) if both and not refit else train
        tuning, selection = self._select(training, examples, scoring)
        notes = {"trained_on": "train+dev" if both else "train", "refit": refit}
        if refit:
            tuning = self._refit(training, selection, train, dev)
            notes["refit_steps"] = int(tuning.steps_done)
        ended = time.monotonic()
        test = self._scoring(self.task.dataset("test"))  # first looked at when everything has been chosen
        metric = test.metric(tuning.chosen())
        cuts = test.readable().cuts
        missing = _unreadable(place) | test.unreadable | (set() if scoring is None else scoring.unreadable)
        weights = tuning.chosen().head.mix
        return outcome.Outcome(
            head=tuning.chosen().head,
            selection=replace(selection, layer_weights=None if weights is None else weights.weights.tolist()),
            metrics=metric.compute(),
            scored=outcome.scored(metric, cuts),
            sizes={"train": len(train.cuts), "dev": 0 if dev is None else len(dev.cuts), "test": len(cuts)},
            unreadable=len(missing),
            seconds={"features": 0.0, "training": ended - started, "test": time.monotonic() - ended},
            notes=notes,
            upstream=tuning.chosen().upstream,
        )

    def _scoring(self, examples: Examples) -> Scoring:
        return Scoring(
            self.task,
            examples,
            device=self.device,
            precision=self.settings.precision,
            max_seconds=self.max_seconds,
            num_workers=self.settings.num_workers,
        )

    def _select(
        self, training: Training, examples: Examples, scoring: Scoring | None
    ) -> tuple[Finetuning, grid.Selection]:
        """Train with every learning rate; return the training that is best on dev, the first of equals."""
        sign = 1.0 if self.task.mode == "max" else -1.0
        best, chosen, values, curves = -math.inf, None, {}, {}
        for lr in self.settings.lrs:
            tuning = training.fit(examples, lr, f"lr-{lr:g}", None if scoring is None else scoring.main)
            value = float(tuning.best_value)
            values[f"{lr:g}"], curves[f"{lr:g}"] = value, tuning.dev_curve()
            if chosen is None or sign * value > best:
                chosen, best = (lr, tuning), sign * value if value == value else -math.inf
        lr, tuning = chosen
        dev = values[f"{lr:g}"]
        if self.settings.selects and dev != dev:
            raise UserError(f"{self.task.monitor} on dev was never a number; lower finetuning.lrs")
        extent = tuning.extent
        selection = grid.Selection(
            lr=lr,
            dev=dev,
            grid=values,
            curves=curves,
            layer_weights=None,
            best_step=int(tuning.best_step) if scoring is not None else extent.total,
            steps=extent.total,
            epochs=self.settings.epochs if self.settings.steps is None else None,
        )
        return tuning, selection

    def _refit(self, training: Training, selection: grid.Selection, train: Examples, dev: Examples) -> Finetuning:
        """Train anew on train and dev, with the chosen learning rate and for as many epochs (or steps) as were best."""
        examples, settings = join_examples([train, dev]), self.settings
        stop = None
        if settings.select == "dev":
            settings = replace(settings, select="last")
            stop = selection.best_step
            if settings.steps is None:
                before, now = (training.extent(len(part.cuts)).epoch for part in (train, examples))
                stop = stop // before * now
        return replace(training, settings=settings).fit(examples, selection.lr, "refit", None, stop)


def _unreadable(place: outcome.Place) -> set[str]:
    """Return the utterances that training could not read."""
    files = [] if place.folder is None else place.folder.glob("*/unreadable.jsonl")
    return {line["id"] for file in files for line in rows.read_lines(file)}
