"""Pretraining of one family on one corpus: what the `pretrain` command puts together."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from speechssl.data.cuts import Corpus
from speechssl.data.loader import TrainStream
from speechssl.errors import UserError
from speechssl.interfaces import BatchStream, Labelling, Parent, PretrainTask, Stage, Tokenizer, TokenizerFit, Upstream
from speechssl.optim.groups import decay_groups
from speechssl.optim.schedule import WarmupLinear
from speechssl.train.checkpoint import export_tokenizer, export_upstream
from speechssl.train.initial import either, initialise, labels_seen
from speechssl.train.labelling import label_corpus
from speechssl.train.loop import Trainer
from speechssl.train.representation import rank_of
from speechssl.train.stages import LABELS, build_work

MIN_SECONDS = 0.1  # shorter utterances are left out, whatever the model
STREAM_SETTINGS = ("max_seconds", "crop_seconds", "num_workers")  # of the trainer group, but the data's


class Pretraining:
    """Does the stages of a family on a corpus, each in a folder of its own.

    Args:
        corpus: with a train split and, if it is to be evaluated, a dev split.
        trainer: all settings of the trainer group.
        optim: lr, weight_decay, betas, warmup.
        model: family and constructor arguments of its upstream, which a checkpoint is checked against.
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

    def execute(self, stage: Stage, run_dir: Path, parents: dict[str, Parent]) -> dict[str, Any]:
        """Do a stage (or continue it, or find it complete); return what the lineage should tell of it."""
        work = build_work(stage, parents, self.seed)
        values = self.trainer_settings | stage.trainer
        stream = {name: values.pop(name) for name in STREAM_SETTINGS}
        trainer = Trainer(**values)
        if isinstance(work, Labelling):
            return label_corpus(trainer.fabric, work, self.corpus, run_dir / LABELS, stream["num_workers"])
        if isinstance(work, TokenizerFit):
            return self._fit(work, trainer, stream, run_dir)
        return self._train(stage, work, trainer, stream, run_dir, {name: one.sha256 for name, one in parents.items()})

    def _train(
        self,
        stage: Stage,
        task: PretrainTask,
        trainer: Trainer,
        stream: dict[str, Any],
        run_dir: Path,
        parents: dict[str, str],
    ) -> dict[str, Any]:
        """Train an objective and export its upstream or tokenizer; a checkpoint has to have the same `parents`."""
        stream = stream | {"min_seconds": self._shortest(task.upstream, stream), "crop_multiple": task.crop_multiple}
        last = trainer.fit(
            task,
            self._batches("train", stream),
            dev=self._batches("dev", stream) if "dev" in self.corpus.splits else None,
            optimizer=lambda module: self._optimizer(module, stage),
            schedule=WarmupLinear(max(1, trainer.max_steps), (self.optim | stage.optim)["warmup"]),
            seed=self.seed,
            run_dir=run_dir,
            settings=self.settings(stage) | ({"parents": parents} if parents else {}),
            config=self.config,
            on_start=self._preparation(stage, task),
        )
        summary = {name: value for name, value in last.items() if name not in ("rate", "data_wait")}
        facts = {**summary, **task.facts()}
        if self._init_from(stage) is not None and "labels_seen" in facts:
            facts["labels_seen"] = either(facts["labels_seen"], labels_seen(self.init_from))
        if trainer.writes:
            facts["effective_rank"] = rank_of(task.upstream, self.corpus)
            about = {"seed": self.seed, "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint}
            training = {**about, "stage": stage.name, "init_from": self._init_from(stage), **facts}
            if task.tokenizer is not None:
                export_tokenizer(task.tokenizer, run_dir / "export", training=training)
            else:
                export = {"task": task, "task_arguments": stage.settings, "training": training}
                export_upstream(task.upstream, run_dir / "export", **export)
        trainer.fabric.barrier()
        return facts

    def _fit(self, work: TokenizerFit, trainer: Trainer, stream: dict[str, Any], run_dir: Path) -> dict[str, Any]:
        """Make a tokenizer ready and export it."""
        if trainer.writes:
            give_statistics(work.tokenizer, self.corpus)
            shortest = {"min_seconds": self._shortest(work.tokenizer, stream)}
            work.fit(self._batches("train", stream | shortest))
            about = {"seed": self.seed, "corpus": self.corpus.name, "fingerprint": self.corpus.fingerprint}
            export_tokenizer(work.tokenizer, run_dir / "export", training={**about, **work.facts()})
        trainer.fabric.barrier()
        return work.facts()

    def settings(self, stage: Stage) -> dict[str, Any]:
        """Return all that the result of a stage depends on and that neither the trainer nor its parents know."""
        values = self.trainer_settings | stage.trainer
        return {
            **self.model,
            "task": stage.settings,
            "optim": self.optim | stage.optim,
            "data": {"fingerprint": self.corpus.fingerprint},
            "init_from": self._init_from(stage),
            "trainer": {name: values[name] for name in ("max_seconds", "crop_seconds")},
            "stage": stage.name,
        }

    def record_settings(self, stage: Stage) -> dict[str, Any]:
        """Return the settings that a finished stage is compared by: also those that the trainer knows."""
        values, settings = self.trainer_settings | stage.trainer, self.settings(stage)
        steps = {name: values[name] for name in ("max_steps", "accumulate", "clip_norm", "precision")}
        return settings | {"seed": self.seed, "trainer": settings["trainer"] | steps}

    def _init_from(self, stage: Stage) -> str | None:
        return self.init_from if stage.initialise else None

    def _shortest(self, reader: Upstream | Tokenizer, stream: dict[str, Any]) -> float:
        """Return how many seconds an utterance must last for the model to learn from it."""
        crop = stream["crop_seconds"]
        shortest = max(MIN_SECONDS, reader.min_samples / reader.sample_rate)
        if crop is not None and crop < shortest:
            raise UserError(
                f"trainer.crop_seconds={crop} is shorter than the {shortest:g} s that {reader.family} needs at least"
            )
        return shortest

    def _batches(self, split: str, stream: dict[str, Any]) -> BatchStream:
        return TrainStream(self.corpus.table(split), seed=self.seed, **stream)

    def _optimizer(self, task: torch.nn.Module, stage: Stage) -> torch.optim.Optimizer:
        optim = self.optim | stage.optim
        groups = decay_groups(task, optim["weight_decay"])
        return torch.optim.AdamW(groups, lr=optim["lr"], betas=tuple(optim["betas"]), fused=True)

    def _preparation(self, stage: Stage, task: PretrainTask) -> Callable[[BatchStream], None]:
        """Return what happens once before the first step."""

        def prepare(batches: BatchStream) -> None:
            if self._init_from(stage) is not None:
                initialise(task, self.init_from)
            give_statistics(task.upstream, self.corpus)
            task.on_start(batches)

        return prepare


def give_statistics(reader: Upstream | Tokenizer, corpus: Corpus) -> None:
    """Give a model the corpus mean and std per channel that its frontend still needs."""
    frontend = reader.statistics_frontend()
    if frontend is not None:
        device = next(frontend.buffers()).device
        mean, std = corpus.statistics(frontend)
        reader.set_statistics(mean.to(device), std.to(device))
