"""One run of the training loop: stepping, logging, evaluating, saving and continuing."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from speechssl.interfaces import BatchStream, PretrainTask
from speechssl.train import (
    checkpoint,
    evaluation,
    gradients,
    health,
    progress,
    ranks,
    seeding,
    settings,
    signals,
    snapshots,
    window,
)
from speechssl.train.logging import RunLog

if TYPE_CHECKING:
    from speechssl.train.loop import Trainer

LOGGER = logging.getLogger(__name__)
AGREE_EVERY = 10  # steps after which several ranks agree whether one was asked to stop


@dataclass
class Job:
    """What `Trainer.fit` is asked to do.

    Args:
        task: what to train; all it has to remember lies in its state dict. Moved to the device.
        batches: endless micro-batches; of a batch only `to(device)`, `empty`, `seconds`, `unreadable` and,
            if it has them, `ids` are used.
        optimizer: builds the optimizer from the task; its learning rates are the peak rates.
        schedule: multiplier of all learning rates at optimizer step 1, 2, ...
        seed: all randomness of the loop derives from it.
        dev: a split to evaluate every `eval_every` steps and at the end.
        run_dir: where to keep checkpoints and metrics; None keeps nothing.
        settings: whatever else the result depends on; a checkpoint with others is not continued.
        config: written to config.yaml.
        on_start: called before the first step of a new run, not when it continues.
        on_evaluation: called with the step when an evaluation is due, in eval mode and without gradients.
    """

    task: PretrainTask
    batches: BatchStream
    optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer]
    schedule: Callable[[int], float]
    seed: int
    dev: BatchStream | None
    run_dir: Path | None
    settings: dict[str, Any] | None
    config: dict[str, Any] | None
    on_start: Callable[[BatchStream], None] | None
    on_evaluation: Callable[[int], None] | None


class Run:
    """One call of `Trainer.fit`: what it works on and how far it is."""

    def __init__(self, trainer: "Trainer", job: Job, stop: signals.StopRequest) -> None:
        self.trainer, self.job, self.stop = trainer, job, stop
        self.fabric, self.device = trainer.fabric, trainer.fabric.device
        self.task = job.task.to(self.device)
        self.equalise()
        self.optimizer = job.optimizer(self.task)
        self.peaks = [group["lr"] for group in self.optimizer.param_groups]
        groups = self.task.gradient_groups()
        self.gradients = gradients.Gradients(self.fabric, self.optimizer, groups, trainer.clip_norm)
        self.per_step = trainer.accumulate * self.fabric.world_size  # micro-batches
        unreadable = job.run_dir / "unreadable.jsonl" if job.run_dir else None
        self.readability = health.Readability(unreadable, trainer.max_unreadable)
        self.meters = window.Meters(self.device)
        self.one = torch.ones((), dtype=torch.float64, device=self.device)
        self.step = self.saved = 0
        self.audio_seconds = self.seconds = 0.0
        self.metrics_size = 0  # bytes of metrics.jsonl at the checkpoint
        self.last: dict[str, float | None] = {"step": 0}
        self.stopping = False
        self.log: RunLog | None = None
        self.picture: Any = None

    @property
    def settings(self) -> dict[str, Any]:
        """All that the result depends on; a checkpoint is continued with the same only."""
        own = {
            "max_steps": self.trainer.max_steps,
            "accumulate times devices": self.per_step,
            "clip_norm": self.trainer.clip_norm,
            "precision": str(self.fabric.strategy.precision.precision),
        }
        return {
            **(self.job.settings or {}),
            "seed": self.job.seed,
            **{f"trainer.{k}": v for k, v in own.items()},
        }

    def equalise(self) -> None:
        ranks.equalise(self.fabric, [*self.task.parameters(), *self.task.buffers()])

    def run(self) -> dict[str, float | None]:
        """Continue or start, train to the end, and return the last values."""
        run_dir, job = self.job.run_dir, self.job
        if self.restore() and self.step == self.trainer.max_steps:
            LOGGER.info("%s is complete: %d steps", run_dir, self.step)
            return self.last
        if run_dir is not None and self.trainer.writes:
            self.log = RunLog(run_dir, job.config, self.step, self.metrics_size)
        if self.step == 0 and job.on_start is not None:
            seeding.seed_generators(self.device, job.seed, seeding.START)
            job.on_start(job.batches)
            self.equalise()
        shown = self.trainer.progress and self.trainer.writes
        self.display = progress.ProgressDisplay(self.trainer.max_steps, self.step, shown)
        self.began = time.perf_counter() - self.seconds
        try:
            self.train()
        finally:
            self.display.close()
            if self.log is not None:
                self.log.close()
        if self.log is not None:
            if self.trainer.draw:
                self.log.draw()
            losses = {name: self.last[name] for name in ("loss", "dev_loss") if name in self.last}
            LOGGER.info("%s is trained: %d steps in %.0f s, %s", run_dir, self.step, self.seconds, losses)
        return self.last

    def train(self) -> None:
        """Train to the last step, or until asked to stop."""
        if self.trainer.max_steps == 0:
            return
        self.task.train()
        first = self.step * self.per_step + self.fabric.global_rank
        stream = self.job.batches.iterate(start=first, step=self.fabric.world_size)
        try:
            while self.step < self.trainer.max_steps and not self.stopping:
                self.train_step(stream)
                self.after_step()
        except _WorkersGoneError:
            self.stopping = True
        finally:
            if hasattr(stream, "close"):
                stream.close()  # ends worker processes
        if self.stopping and self.step < self.trainer.max_steps:
            if self.saved != self.step:
                self.save()
            LOGGER.warning("stopped by SIGTERM after step %d; the same command continues from there", self.step)
            raise SystemExit(signals.STOPPED)

    def train_step(self, stream: Iterator[Any]) -> None:
        """Take one optimizer step."""
        began, waited = time.perf_counter(), 0.0
        drawn, outputs = [], []
        self.gradients.start()
        for index in range(self.trainer.accumulate):
            before = time.perf_counter()
            batch = self.fetch(stream)
            waited += time.perf_counter() - before
            drawn.append(batch)
            if not batch.empty:
                number = self.step * self.per_step + index * self.fabric.world_size + self.fabric.global_rank
                outputs.append(self.micro_batch(batch, number))
        multiplier = self.job.schedule(self.step + 1)
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = peak * multiplier
        norm, updated = self.gradients.apply()
        seeding.seed_generators(self.device, self.job.seed, seeding.AFTER_STEP, self.step + 1)
        self.task.after_step(self.step + 1)
        self.step += 1
        for batch in drawn:
            self.readability.note(batch)
            self.meters.audio += batch.seconds
        self.meters.add(outputs, norm, updated)
        self.meters.waited += waited
        self.meters.busy += time.perf_counter() - began

    def fetch(self, stream: Iterator[Any]) -> Any:
        try:
            return next(stream)
        except RuntimeError as error:  # a SIGTERM to the whole process group ends the loader's workers too
            if self.stop.requested:
                raise _WorkersGoneError from error
            raise

    def micro_batch(self, batch: Any, number: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Add the gradient of a micro-batch; return what the task reported and the weight."""
        seeding.seed_generators(self.device, self.job.seed, seeding.MICRO_BATCH, number)
        with self.fabric.autocast():
            values = dict(self.task(batch.to(self.device)))
        weight = values.pop("weight", self.one)
        self.gradients.add(values["loss"], weight)
        return values, weight

    def after_step(self) -> None:
        """Log, evaluate and save where it is due."""
        self.display.advance(self.step)
        if self.due(self.trainer.log_every):
            self.write_metrics()
        elif self.fabric.world_size == 1 or self.step % AGREE_EVERY == 0:
            self.stopping = any(ranks.gather(self.fabric, self.stop.requested))
        if self.due(self.trainer.eval_every):
            self.evaluate()
        if self.due(self.trainer.save_every):
            self.save()

    def due(self, every: int) -> bool:
        return self.step == self.trainer.max_steps or (every > 0 and self.step % every == 0)

    def write_metrics(self) -> None:
        """Average over the window and over ranks, check that training is sound, and write a line."""
        news = {
            "meters": self.meters.state(),
            "unreadable": self.readability.new,
            "stop": self.stop.requested,
        }
        gathered = ranks.gather(self.fabric, news)
        self.stopping = any(part["stop"] for part in gathered)
        self.readability.merge([part["unreadable"] for part in gathered], self.trainer.writes)
        self.meters.load([part["meters"] for part in gathered])
        means, updates = self.meters.values.means(), self.meters.updates.means()
        health.check_loss(means, updates["updated"], self.step, self.trainer.log_every)
        self.audio_seconds += self.meters.audio
        self.seconds = time.perf_counter() - self.began
        rate, wait = self.meters.audio / 3600 / self.meters.busy, self.meters.waited / self.meters.busy
        record = {"loss": means.pop("loss", None), **means, "lr": self.optimizer.param_groups[0]["lr"]}
        record |= {"grad_norm": updates["grad_norm"], "audio_seconds": self.audio_seconds}
        if updates["updated"] < 1:
            record["skipped"] = 1 - updates["updated"]  # share of updates left out: gradients were not finite
        self.write("train", {**record, "seconds": self.seconds, "rate": rate, "data_wait": wait})
        self.display.describe(record["loss"], rate, wait)
        self.meters.reset()

    def write(self, split: str, record: dict[str, float | None]) -> None:
        prefix = "" if split == "train" else f"{split}_"
        self.last |= {"step": self.step, **{f"{prefix}{name}": value for name, value in record.items()}}
        if self.log is not None:
            self.log.write({"step": self.step, "split": split, **record})

    def evaluate(self) -> None:
        """Evaluate on the dev split and draw a picture of one fixed batch."""
        if self.job.dev is not None:
            means = evaluation.evaluate(self.fabric, self.task, self.job.dev, self.job.seed, self.readability.note)
            self.write("dev", means)
        if self.job.on_evaluation is not None:
            seeding.seed_generators(self.device, self.job.seed, seeding.EVALUATION)
            with evaluation.evaluating(self.task):
                self.job.on_evaluation(self.step)
        if self.log is not None and type(self.task).snapshot is not PretrainTask.snapshot:
            if self.picture is None:
                self.picture = next(iter((self.job.dev or self.job.batches).once()))
            if not self.picture.empty:
                path = self.log.run_dir / "snapshots" / f"step-{self.step:08d}"
                snapshots.save_snapshot(self.fabric, self.task, self.picture, self.job.seed, path)

    def save(self) -> None:
        """Write a checkpoint that holds all that the rest of the run depends on."""
        self.seconds = time.perf_counter() - self.began
        parts = ranks.gather(self.fabric, {"meters": self.meters.state(), "unreadable": self.readability.new})
        self.saved = self.step
        if self.log is None or self.job.run_dir is None:
            return
        state = {
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "step": self.step,
            "audio_seconds": self.audio_seconds,
            "seconds": self.seconds,
            "metrics_size": self.log.sync(),
            "readability": self.readability.state(),
            "parts": parts,
            "last": self.last,
        }
        checkpoint.save_checkpoint(self.job.run_dir, self.step, state, self.settings, self.trainer.keep_checkpoints)

    def restore(self) -> bool:
        """Load the newest intact checkpoint; return whether there was one."""
        if self.job.run_dir is None:
            return False
        found = checkpoint.newest_checkpoint(self.job.run_dir) if self.trainer.writes else None
        folder = ranks.from_first_rank(self.fabric, found)
        if folder is None:
            return False
        state, saved = checkpoint.load_checkpoint(folder)
        settings.check_settings(saved, self.settings, self.job.run_dir)
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = self.saved = state["step"]
        self.audio_seconds, self.seconds = state["audio_seconds"], state["seconds"]
        self.metrics_size, self.last = state["metrics_size"], state["last"]
        self.readability.load(state["readability"])
        self.take_parts(state["parts"])
        LOGGER.info("continuing %s after step %d", self.job.run_dir, self.step)
        return True

    def take_parts(self, parts: list[dict[str, Any]]) -> None:
        """Continue the log window of this rank; with another number of ranks, the first takes all of it."""
        if len(parts) == self.fabric.world_size:
            parts = [parts[self.fabric.global_rank]]
        elif not self.trainer.writes:
            parts = []
        self.meters.load([part["meters"] for part in parts])
        self.readability.resume([part["unreadable"] for part in parts])


class _WorkersGoneError(Exception):
    """The loader's worker processes ended because of the signal that asks this process to stop."""
