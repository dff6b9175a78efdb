"""One result: train the grid of heads on cached features, select on dev, read test once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from speechssl.data.cuts import Corpus, CutTable
from speechssl.errors import UserError
from speechssl.files import atomic_path, write_json
from speechssl.interfaces import DownstreamTask, Examples
from speechssl.probe.batches import HeadBatches, Split
from speechssl.probe.cache import FeatureCache
from speechssl.probe.grid import Grid, evaluate_head
from speechssl.probe.heads import Standardize, build_head
from speechssl.train.loop import Trainer

FORMAT = 1  # of a probe's export/config.json
SAVE_EVERY = 5000  # steps; shorter trainings are saved at their end only


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
    """

    grid: Grid
    metrics: dict[str, float]
    records: list[dict[str, Any]]
    cuts: CutTable
    sizes: dict[str, int]
    unreadable: int
    seconds: dict[str, float]


class Probe:
    """A task on the cached features of one upstream.

    Args:
        task: the task on its corpus.
        corpus: where utterances come from.
        cache: of the upstream.
        standardize: standardise the hidden states with statistics of the train split.
        device: where heads train, such as "cpu" or "cuda".
    """

    def __init__(
        self, task: DownstreamTask, corpus: Corpus, cache: FeatureCache, standardize: bool, device: str
    ):
        self.task, self.corpus, self.cache = task, corpus, cache
        self.standardize, self.device = standardize, torch.device(device)
        self.unreadable = 0
        self.seconds = {"features": 0.0, "training": 0.0, "test": 0.0}

    def examples(self, split: str) -> tuple[Examples, Split]:
        """Return the readable utterances of a split with their features, encoding those that are new."""
        started = time.monotonic()
        examples = self.task.dataset(split)
        self.cache.fill(self.corpus, examples.cuts, frames=not self.task.pooled)
        kept = self.cache.readable(self.corpus, examples.cuts)
        if not kept:
            raise UserError(
                f"none of the {len(examples.cuts)} utterances in {split} of {self.corpus.name} is readable"
            )
        self.unreadable += len(examples.cuts) - len(kept)
        cuts = examples.cuts.select(kept)
        labels = {name: [values[i] for i in kept] for name, values in examples.labels.items()}
        read = self.cache.pooled if self.task.pooled else self.cache.frames
        features = Split(read(self.corpus, cuts), labels, list(cuts.ids), cuts.num_samples / 16000)
        self.seconds["features"] += time.monotonic() - started
        return Examples(cuts, labels), features

    def run(self, seed: int, folder: Path, settings: dict[str, Any], config: dict[str, Any]) -> Outcome:
        """Train, select and test; an interrupted training in `folder` is continued."""
        examples, train = self.examples("train")
        _, dev = self.examples("dev")
        grid = self.build(train, seed)
        weights = self.task.sample_weights(examples)
        started = time.monotonic()
        self.fit(
            grid, HeadBatches(train, self.task.batch_size, seed, weights), dev, seed, folder, settings, config
        )
        self.seconds["training"] = time.monotonic() - started
        examples, test = self.examples("test")  # first looked at when everything has been chosen
        started = time.monotonic()
        metric = evaluate_head(
            grid, grid.best[grid.selected()], test.scoring_batches(), self.task.metric(), self.device
        )
        self.seconds["test"] = time.monotonic() - started
        found = {record["id"]: record for record in metric.records()}
        records = [found[name] for name in test.ids]
        for record, speaker in zip(records, examples.cuts.column("speaker"), strict=True):
            record["speaker"] = speaker
        sizes = {"train": len(train), "dev": len(dev), "test": len(test)}
        return Outcome(grid, metric.compute(), records, examples.cuts, sizes, self.unreadable, self.seconds)

    def build(self, train: Split, seed: int) -> Grid:
        """Return the grid before training."""
        upstream = self.cache.upstream
        head = build_head(
            self.task, upstream.num_layers + 1, upstream.hidden_size, upstream.downsample_rate, seed
        )
        evaluations = self.task.steps // self.task.eval_every + 1
        standardize = Standardize(*train.moments()) if self.standardize else None
        return Grid(self.task, head, self.task.lrs, evaluations, standardize).to(self.device)

    def fit(
        self,
        grid: Grid,
        batches: HeadBatches,
        dev: Split,
        seed: int,
        folder: Path,
        settings: dict,
        config: dict,
    ) -> None:
        """Train the heads with the common loop, scoring them on dev on a fixed schedule."""
        task = self.task

        def on_evaluation(step: int) -> None:
            grid.evaluate(step, self.scorer(grid, dev))

        trainer = Trainer(
            max_steps=task.steps,
            save_every=SAVE_EVERY,
            log_every=task.eval_every,
            eval_every=task.eval_every,
            accumulate=1,
            precision="32-true",
            accelerator="cuda" if self.device.type == "cuda" else "cpu",
            devices=1,
            clip_norm=task.clip_norm,
            keep_checkpoints=1,
            max_unreadable=1.0,
            progress=False,
        )
        trainer.fit(
            grid,
            batches,
            optimizer=Grid.optimizer,
            schedule=lambda step: 1.0,
            seed=seed,
            run_dir=folder,
            settings=settings,
            config=config,
            on_evaluation=on_evaluation,
        )

    def scorer(self, grid: Grid, dev: Split) -> Callable[[torch.nn.Module], float]:
        """Return a function giving the main metric of a head on dev."""

        def score(head: torch.nn.Module) -> float:
            metric = evaluate_head(grid, head, dev.scoring_batches(), self.task.metric(), self.device)
            return metric.compute()[self.task.monitor]

        return score


def export_head(grid: Grid, folder: Path, description: dict[str, Any]) -> None:
    """Write the selected head, standardisation included, to `folder/export`, safetensors and JSON."""
    state = {f"probe.{k}": v for k, v in grid.best[grid.selected()].state_dict().items()}
    if grid.standardize is not None:
        state |= {f"standardize.{k}": v for k, v in grid.standardize.state_dict().items()}
    with atomic_path(folder / "export" / "model.safetensors") as temporary:
        save_file({name: tensor.cpu().contiguous().clone() for name, tensor in state.items()}, temporary)
    write_json(folder / "export" / "config.json", {"format": FORMAT, **description})
