"""One result: train the grid of heads on cached features, select on dev, read test once.

Where a corpus comes in folds (`task.refit`), the published protocol trains on all folds but one: once dev has selected
a learning rate and a number of steps, one head is trained anew with these on train and dev together, and tested.

Published numbers of some tasks were selected on test, as the best of several checkpoints there. Such a number is
computed beside the honest one where a task asks for it (`test_selected`), after that one, and its name says what it is.
"""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from speechssl.data.cuts import Corpus
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.probe.batches import HeadBatches, Pieces, Split, join
from speechssl.probe.cache import FeatureCache
from speechssl.probe.checkpoints import KeptHeads
from speechssl.probe.grid import Grid, Selection, evaluate_head, halving_schedule
from speechssl.probe.heads import Standardize, build_head
from speechssl.probe.keys import readable
from speechssl.probe.online import OnlineFeatures
from speechssl.probe.outcome import Outcome, Place, scored
from speechssl.train.loop import Trainer

SAVE_EVERY = (
    5000  # steps; shorter trainings are saved at their end only, and leave their curves to metrics.jsonl and the row
)


@dataclass(frozen=True)
class HeadSettings:
    """How heads are trained on frozen features.

    Attributes:
        device: "cpu" or "cuda".
        standardize: standardise the hidden states with statistics of the train split.
        fixed_batch: the published number of utterances in every batch; else as many as make equally large batches.
        halving: give up the worse half of the learning rates early, see `speechssl.probe.grid.halving_schedule`.
    """

    device: str = "cpu"
    standardize: bool = False
    fixed_batch: bool = True
    halving: bool = False


class Probe:
    """A task on the cached features of one upstream.

    Args:
        task: the task on its corpus.
        corpus: where utterances come from.
        cache: of the upstream.
        settings: of training.
    """

    def __init__(
        self, task: DownstreamTask, corpus: Corpus, cache: FeatureCache | OnlineFeatures, settings: HeadSettings
    ):
        self.task, self.corpus, self.cache, self.settings = task, corpus, cache, settings
        self.device = torch.device(settings.device)
        self.unreadable = 0
        self.seconds = {"features": 0.0, "training": 0.0, "test": 0.0}

    def examples(self, split: str) -> tuple[Examples, Split]:
        """Return the readable utterances of a split with their features, encoding those that are new."""
        started = time.monotonic()
        examples = self.task.dataset(split)
        wanted = {"frames": not self.task.pooled, "pooling": self.task.pooling}
        self.cache.fill(self.corpus, examples.cuts, **wanted)
        kept = readable(self.corpus, examples.cuts, self.cache.unreadable, split)
        self.unreadable += len(examples.cuts) - len(kept)
        cuts = examples.cuts.select(kept)
        labels = {name: [values[i] for i in kept] for name, values in examples.labels.items()}
        found = self.cache.features(self.corpus, cuts, **wanted)
        features = Split(found, labels, list(cuts.ids), cuts.num_samples / 16000, self._targets())
        self.seconds["features"] += time.monotonic() - started
        return Examples(cuts, labels), features

    def _targets(self) -> Any:
        """Return what makes labels of frames, or None for a task without any."""
        if type(self.task).frame_targets is DownstreamTask.frame_targets:
            return None
        return partial(self.task.frame_targets, downsample_rate=self.cache.upstream.downsample_rate)

    def run(self, place: Place) -> Outcome:
        """Train, select and test; an interrupted training is continued."""
        self.unreadable, self.seconds = 0, dict.fromkeys(self.seconds, 0.0)
        _, train = self.examples("train")
        _, dev = self.examples("dev")
        started = time.monotonic()
        grid = self.build(train, place.seed, self.task.lrs)
        kept = KeptHeads(place.folder, self.task.test_selected, self.task.steps, self.task.eval_every)
        self.fit(grid, train, dev, place, self.task.steps, kept)
        selection, head = grid.selection(), grid.selected_head()
        if self.task.refit:
            grid = self.refit(selection, join(train, dev), place)
            head = grid.deployed(grid.heads[0])
            selection = replace(selection, layer_weights=head.probe.mix.weights.tolist())
        choices = self._choices(grid, head.probe, dev)
        self.seconds["training"] = time.monotonic() - started
        examples, test = self.examples("test")  # first looked at when everything has been chosen
        started = time.monotonic()
        metric = self.evaluate(grid, head.probe, test, **choices)
        metrics = metric.compute() | self._test_selected(grid, kept, test, choices)
        self.seconds["test"] = time.monotonic() - started
        return Outcome(
            head=head,
            selection=selection,
            metrics=metrics,
            scored=scored(metric, examples.cuts),
            sizes={"train": len(train), "dev": len(dev), "test": len(test)},
            unreadable=self.unreadable,
            seconds=dict(self.seconds),
            notes={"refit": self.task.refit, "choices": choices},
        )

    def _choices(self, grid: Grid, head: torch.nn.Module, dev: Split) -> dict[str, Any]:
        """Return what the task decides on dev once the head is chosen."""
        if type(self.task).tune is DownstreamTask.tune:
            return {}
        return self.task.tune(self.evaluate(grid, head, dev))

    def _test_selected(self, grid: Grid, kept: KeptHeads, test: Split, choices: dict[str, Any]) -> dict[str, float]:
        """Return the best main metric on test of the checkpoints that were kept, under a name that says so."""
        name, number = self.task.monitor, grid.selected()
        best = max if self.task.mode == "max" else min
        values = [
            self.evaluate(grid, head, test, **choices).compute()[name]
            for head in kept.heads(grid.best[number], f"{number}.")
        ]
        return {f"{name}_test_selected": best(values)} if values else {}

    def build(self, train: Split, seed: int, lrs: tuple[float, ...]) -> Grid:
        """Return the grid before training."""
        upstream = self.cache.upstream
        head = build_head(self.task, upstream.num_layers + 1, upstream.hidden_size, upstream.downsample_rate, seed)
        evaluations = self.task.steps // self.task.eval_every + 1
        standardize = Standardize(*train.moments()) if self.settings.standardize else None
        halving = halving_schedule(len(lrs), self.task.steps, self.task.eval_every) if self.settings.halving else None
        stacked = self.device.type == "cuda"
        return Grid(self.task, head, lrs, evaluations, standardize, stacked=stacked, halving=halving).to(self.device)

    def evaluate(self, grid: Grid, head: torch.nn.Module, split: Split, **choices: Any) -> Metric:
        """Return the task's metric, with these choices, filled with what a head says of a split."""
        return evaluate_head(grid, head, split.scoring_batches(), self.task.metric(**choices), self.device)

    def pieces(self) -> Pieces:
        """Return how train batches take utterances apart."""
        rate = self.cache.upstream.sample_rate / self.cache.upstream.downsample_rate  # frames per second
        crop, chunk = (round((seconds or 0.0) * rate) for seconds in (self.task.crop_seconds, self.task.chunk_seconds))
        return Pieces(crop, chunk, fixed=self.settings.fixed_batch, shuffled=self.task.pooled)

    def refit(self, selection: Selection, everything: Split, place: Place) -> Grid:
        """Return one head trained anew on train and dev, with the learning rate and for the steps that were selected.

        Its run directory is `refit` in that of the result.
        """
        grid = self.build(everything, place.seed, (selection.lr,))
        inner = replace(place, folder=place.folder and place.folder / "refit")
        self.fit(grid, everything, None, inner, selection.best_step)
        return grid

    def fit(
        self, grid: Grid, train: Split, dev: Split | None, place: Place, steps: int, kept: KeptHeads | None = None
    ) -> None:
        """Train the heads with the common loop, scoring them on dev, where there is one, on a fixed schedule."""
        task = self.task
        weights = task.sample_weights(Examples(None, train.labels))

        def score(head: torch.nn.Module) -> float:
            return self.evaluate(grid, head, dev).compute()[grid.dev_metric]

        def on_evaluation(step: int) -> None:
            grid.evaluate(step, score)
            if kept is not None:
                kept.keep(step, grid.heads)

        trainer = Trainer(
            max_steps=steps,
            save_every=SAVE_EVERY,
            log_every=task.eval_every,
            eval_every=task.eval_every if dev else 0,
            accumulate=1,
            precision="32-true",
            accelerator="cuda" if self.device.type == "cuda" else "cpu",
            devices=1,
            clip_norm=task.clip_norm,
            keep_checkpoints=1,
            max_unreadable=1.0,
            progress=True,
            draw=steps >= SAVE_EVERY,
        )
        trainer.fit(
            grid,
            HeadBatches(train, task.batch_size, place.seed, weights, self.pieces()),
            optimizer=Grid.optimizer,
            schedule=lambda step: 1.0,
            seed=place.seed,
            run_dir=place.folder,
            settings={"settings": place.settings},
            config=place.config,
            on_evaluation=on_evaluation if dev else None,
        )
