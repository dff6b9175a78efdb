"""The training loop, for pretraining and downstream heads alike.

Optimizer step s (from 0) with A accumulated micro-batches on W ranks consumes micro-batches s W A to (s + 1)
W A - 1 of an endless stream; rank r takes the numbers s W A + a W + r. Random numbers are seeded per
micro-batch. So a step number is all that resuming needs, and a run that was killed ends with the same bits
(on a CPU) as one that was not.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer

from speechssl.errors import UserError
from speechssl.interfaces import BatchStream, PretrainTask
from speechssl.train import ranks, seeding, signals
from speechssl.train.run import Job, Run


class Trainer:
    """Settings of the loop, and the devices it runs on.

    Args:
        max_steps: optimizer steps in all.
        save_every: steps between checkpoints; 0 saves only at the end.
        log_every: steps that one line of metrics is an average over.
        eval_every: steps between evaluations on the dev split; 0 evaluates only at the end.
        accumulate: micro-batches per optimizer step and rank.
        precision: "auto", "32-true", "bf16-mixed" or "16-mixed"; weights stay in float32.
        accelerator: "auto", "cpu" or "cuda".
        devices: "auto" (what torchrun started, else one) or a number.
        clip_norm: largest gradient norm of each of the task's gradient groups; 0 does not clip.
        keep_checkpoints: newest checkpoints to keep.
        max_unreadable: share of the utterances that may be unreadable before the run is stopped.
        progress: show progress on the terminal.
        draw: draw the curves when training ends, which takes a second.
    """

    def __init__(
        self,
        *,
        max_steps: int,
        save_every: int,
        log_every: int,
        eval_every: int,
        accumulate: int,
        precision: str,
        accelerator: str,
        devices: int | str,
        clip_norm: float,
        keep_checkpoints: int,
        max_unreadable: float,
        progress: bool,
        draw: bool = True,
    ) -> None:
        self.draw = draw
        self.max_steps, self.save_every, self.log_every = max_steps, save_every, log_every
        self.eval_every, self.accumulate, self.precision = eval_every, accumulate, precision
        self.accelerator, self.devices, self.clip_norm = accelerator, devices, clip_norm
        self.keep_checkpoints, self.max_unreadable, self.progress = keep_checkpoints, max_unreadable, progress
        for name, smallest in (("log_every", 1), ("accumulate", 1), ("keep_checkpoints", 1)):
            if getattr(self, name) < smallest:
                raise UserError(f"trainer.{name} expects at least {smallest}, found {getattr(self, name)}")
        for name in ("max_steps", "save_every", "eval_every", "clip_norm", "max_unreadable"):
            if getattr(self, name) < 0:
                raise UserError(f"trainer.{name} expects 0 or more, found {getattr(self, name)}")
        ranks.check_precision(precision)
        ranks.check_devices(accelerator, devices)

    @cached_property
    def fabric(self) -> Fabric:
        """Lightning Fabric, started (with the process group, under torchrun) when it is first needed."""
        return ranks.start_fabric(self.accelerator, self.devices, self.precision)

    @property
    def writes(self) -> bool:
        """Whether this process is rank 0, the only one that writes files."""
        return self.fabric.is_global_zero

    def fit(
        self,
        task: PretrainTask,
        batches: BatchStream,
        *,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Callable[[int], float],
        seed: int,
        dev: BatchStream | None = None,
        run_dir: Path | None = None,
        settings: dict[str, Any] | None = None,
        config: dict[str, Any] | None = None,
        on_start: Callable[[BatchStream], None] | None = None,
        on_evaluation: Callable[[int], None] | None = None,
    ) -> dict[str, float | None]:
        """Train `task` in place, continuing from the newest checkpoint in `run_dir` where there is one.

        The arguments are explained at `Job`.

        Returns:
            The values of the last log line, with those of the dev split as "dev_<name>"; None if not finite.

        Raises:
            UserError: other settings than the checkpoint's, too much unreadable audio, a diverged loss.
            SystemExit: status 143 after SIGTERM, with a checkpoint saved (only with `run_dir`).
        """
        job = Job(task, batches, optimizer, schedule, seed, dev, run_dir, settings, config, on_start, on_evaluation)
        device, listen = self.fabric.device, run_dir is not None
        with seeding.generators_restored(device), signals.StopRequest(listen) as stop:
            return Run(self, job, stop).run()
