"""One result: train the grid of heads on cached features, select on dev, read test once.

Where a corpus comes in folds (`task.refit`), the published protocol trains on all folds but one: once dev has selected
a learning rate and a number of steps, one head is trained anew with these on train and dev together, and tested.
"""

import time
from dataclasses import replace

import torch

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.probe.batches import HeadBatches, Split, join
from speechssl.probe.cache import FeatureCache
from speechssl.probe.grid import Grid, Selection, evaluate_head
from speechssl.probe.heads import Standardize, build_head
from speechssl.probe.outcome import Outcome, Place, in_order
from speechssl.train.loop import Trainer

SAVE_EVERY = 5000  # steps; shorter trainings are saved at their end only


class Probe:
    """A task on the cached features of one upstream.

    Args:
        task: the task on its corpus.
        corpus: where utterances come from.
        cache: of the upstream.
        standardize: standardise the hidden states with statistics of the train split.
        device: where heads train, such as "cpu" or "cuda".
    """

    def __init__(self, task: DownstreamTask, corpus: Corpus, cache: FeatureCache, standardize: bool, device: str):
        self.task, self.corpus, self.cache = task, corpus, cache
        self.standardize, self.device = standardize, torch.device(device)
        self.unreadable = 0
        self.seconds = {"features": 0.0, "training": 0.0, "test": 0.0}

    def examples(self, split: str) -> tuple[Examples, Split]:
        """Return the readable utterances of a split with their features, encoding those that are new."""
        started = time.monotonic()
        examples = self.task.dataset(split)
        wanted = {"frames": not self.task.pooled, "pooling": self.task.pooling}
        self.cache.fill(self.corpus, examples.cuts, **wanted)
        kept = self.cache.readable(self.corpus, examples.cuts)
        if not kept:
            raise UserError(f"none of the {len(examples.cuts)} utterances in {split} of {self.corpus.name} is readable")
        self.unreadable += len(examples.cuts) - len(kept)
        cuts = examples.cuts.select(kept)
        labels = {name: [values[i] for i in kept] for name, values in examples.labels.items()}
        features = Split(
            self.cache.features(self.corpus, cuts, **wanted), labels, list(cuts.ids), cuts.num_samples / 16000
        )
        self.seconds["features"] += time.monotonic() - started
        return Examples(cuts, labels), features

    def run(self, place: Place) -> Outcome:
        """Train, select and test; an interrupted training is continued."""
        self.unreadable, self.seconds = 0, dict.fromkeys(self.seconds, 0.0)
        _, train = self.examples("train")
        _, dev = self.examples("dev")
        started = time.monotonic()
        grid = self.build(train, place.seed, self.task.lrs)
        self.fit(grid, train, dev, place, self.task.steps)
        selection, head = grid.selection(), grid.selected_head()
        if self.task.refit:
            grid = self.refit(selection, join(train, dev), place)
            head = grid.deployed(grid.heads[0])
            selection = replace(selection, layer_weights=head.probe.mix.weights.tolist())
        self.seconds["training"] = time.monotonic() - started
        examples, test = self.examples("test")  # first looked at when everything has been chosen
        started = time.monotonic()
        metric = self.evaluate(grid, head.probe, test)
        self.seconds["test"] = time.monotonic() - started
        records, main = in_order(metric, examples.cuts)
        return Outcome(
            head=head,
            selection=selection,
            metrics=metric.compute(),
            records=records,
            cuts=examples.cuts,
            sizes={"train": len(train), "dev": len(dev), "test": len(test)},
            unreadable=self.unreadable,
            seconds=dict(self.seconds),
            main=main,
            notes={"refit": self.task.refit},
        )

    def build(self, train: Split, seed: int, lrs: tuple[float, ...]) -> Grid:
        """Return the grid before training."""
        upstream = self.cache.upstream
        head = build_head(self.task, upstream.num_layers + 1, upstream.hidden_size, upstream.downsample_rate, seed)
        evaluations = self.task.steps // self.task.eval_every + 1
        standardize = Standardize(*train.moments()) if self.standardize else None
        return Grid(self.task, head, lrs, evaluations, standardize).to(self.device)

    def evaluate(self, grid: Grid, head: torch.nn.Module, split: Split) -> Metric:
        """Return the task's metric, filled with what a head says of a split."""
        return evaluate_head(grid, head, split.scoring_batches(), self.task.metric(), self.device)

    def refit(self, selection: Selection, everything: Split, place: Place) -> Grid:
        """Return one head trained anew on train and dev, with the learning rate and for the steps that were selected.

        Its run directory is `refit` in that of the result.
        """
        grid = self.build(everything, place.seed, (selection.lr,))
        inner = replace(place, folder=place.folder and place.folder / "refit")
        self.fit(grid, everything, None, inner, selection.best_step)
        return grid

    def fit(self, grid: Grid, train: Split, dev: Split | None, place: Place, steps: int) -> None:
        """Train the heads with the common loop, scoring them on dev, where there is one, on a fixed schedule."""
        task = self.task
        weights = task.sample_weights(Examples(None, train.labels))

        def score(head: torch.nn.Module) -> float:
            return self.evaluate(grid, head, dev).compute()[task.monitor]

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
        )
        trainer.fit(
            grid,
            HeadBatches(train, task.batch_size, place.seed, weights),
            optimizer=Grid.optimizer,
            schedule=lambda step: 1.0,
            seed=place.seed,
            run_dir=place.folder,
            settings={"settings": place.settings},
            config=place.config,
            on_evaluation=(lambda step: grid.evaluate(step, score)) if dev else None,
        )
