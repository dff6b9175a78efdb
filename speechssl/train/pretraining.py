"""Pretraining of one family on one corpus: what the `pretrain` command puts together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechssl.data.cuts import Corpus
from speechssl.data.loader import TrainStream
from speechssl.errors import UserError
from speechssl.interfaces import BatchStream, PretrainTask, Stage
from speechssl.optim.groups import decay_groups
from speechssl.optim.schedule import WarmupLinear
from speechssl.train.checkpoint import export_upstream
from speechssl.train.initial import initialise
from speechssl.train.loop import Trainer

MIN_SECONDS = 0.1  # shorter utterances are left out, whatever the model
STREAM_SETTINGS = ("max_seconds", "crop_seconds", "num_workers")  # of the trainer group, but the data's


class Pretraining:
    """Trains an objective on a corpus, in one run directory per stage.

    Args:
        corpus: with a train split and, if it is to be evaluated, a dev split.
        trainer: all settings of the trainer group.
        optim: lr, weight_decay, betas, warmup.
        model: constructor arguments of upstream and task, which a checkpoint is checked against.
        seed: of everything random.
        init_from: weights to start from, or None.
        config: the whole resolved configuration, for config.yaml.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        trainer: dict[str, Any],
        optim: dict[str, Any],
        model: dict[str, Any],
        seed: int,
        init_from: str | None,
        config: dict[str, Any],
    ) -> None:
        self.corpus, self.optim, self.model = corpus, optim, model
        self.trainer_settings = {k: v for k, v in trainer.items() if k != "num_threads"}
        self.seed, self.init_from, self.config = seed, init_from, config

    def train(self, stage: Stage, run_dir: Path) -> None:
        """Train a stage (or continue, or find it complete) and export its upstream."""
        values = self.trainer_settings | stage.trainer
        stream = {name: values.pop(name) for name in STREAM_SETTINGS}
        trainer, shortest = Trainer(**values), self._shortest(stage, stream)
        last = trainer.fit(
            stage.task,
            self._batches("train", stream, shortest),
            dev=self._batches("dev", stream, shortest) if "dev" in self.corpus.splits else None,
            optimizer=self._optimizer,
            schedule=WarmupLinear(max(1, trainer.max_steps), self.optim["warmup"]),
            seed=self.seed,
            run_dir=run_dir,
            settings=self._settings(stage, stream),
            config=self.config,
            on_start=self._preparation(stage),
        )
        if trainer.writes:
            summary = {name: value for name, value in last.items() if name not in ("rate", "data_wait")}
            about = {"seed": self.seed, "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint}
            training = {**about, "stage": stage.name, "init_from": self.init_from, **summary}
            arguments = self.model.get("task")
            export = {"task": stage.task, "task_arguments": arguments, "training": training}
            export_upstream(stage.task.upstream, run_dir / "export", **export)

    def _shortest(self, stage: Stage, stream: dict[str, Any]) -> float:
        """Return how many seconds an utterance must last for the model to learn from it."""
        upstream, crop = stage.task.upstream, stream["crop_seconds"]
        shortest = max(MIN_SECONDS, upstream.min_samples / upstream.sample_rate)
        if crop is not None and crop < shortest:
            raise UserError(
                f"trainer.crop_seconds={crop} is shorter than the {shortest:g} s that {upstream.family} needs at least"
            )
        return shortest

    def _batches(self, split: str, stream: dict[str, Any], shortest: float) -> BatchStream:
        return TrainStream(self.corpus.table(split), seed=self.seed, min_seconds=shortest, **stream)

    def _optimizer(self, task: torch.nn.Module) -> torch.optim.Optimizer:
        groups = decay_groups(task, self.optim["weight_decay"])
        return torch.optim.AdamW(groups, lr=self.optim["lr"], betas=tuple(self.optim["betas"]), fused=True)

    def _settings(self, stage: Stage, stream: dict[str, Any]) -> dict[str, Any]:
        """Return all that the result depends on and that the trainer does not know."""
        return {
            **self.model,
            "optim": self.optim,
            "data": {"fingerprint": self.corpus.fingerprint},
            "init_from": self.init_from,
            "trainer": {name: stream[name] for name in ("max_seconds", "crop_seconds")},
            "stage": stage.name,
        }

    def _preparation(self, stage: Stage) -> Callable[[BatchStream], None]:
        """Return what happens once before the first step."""

        def prepare(batches: BatchStream) -> None:
            if self.init_from is not None:
                initialise(stage.task, self.init_from)
            give_statistics(stage.task, self.corpus)
            stage.on_start(batches)

        return prepare


def give_statistics(task: PretrainTask, corpus: Corpus) -> None:
    """Give the upstream the corpus mean and std per channel that its frontend still needs."""
    frontend = task.upstream.statistics_frontend()
    if frontend is not None:
        device = next(task.upstream.parameters()).device
        mean, std = corpus.statistics(frontend)
        task.upstream.set_statistics(mean.to(device), std.to(device))
