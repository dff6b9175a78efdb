"""A tiny objective and stream for tests of the loop; also a program for tests to kill."""

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from speechssl.interfaces import PretrainTask
from speechssl.train.checkpoint import write_tensors
from speechssl.train.loop import Trainer

SETTINGS: dict[str, Any] = {
    "max_steps": 20,
    "save_every": 4,
    "log_every": 3,
    "eval_every": 5,
    "accumulate": 1,
    "precision": "32-true",
    "accelerator": "cpu",
    "devices": "auto",
    "clip_norm": 1.0,
    "keep_checkpoints": 2,
    "max_unreadable": 0.01,
    "progress": False,
}


@dataclass
class ToyBatch:
    x: Tensor  # (B, 4)
    mask: Tensor  # (B,) counted rows
    ids: list[str]
    empty: bool = False
    unreadable: list[tuple[str, str]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return 0.0 if self.empty else float(self.mask.sum())

    def to(self, device: torch.device) -> "ToyBatch":
        return replace(self, x=self.x.to(device), mask=self.mask.to(device))


class ToyStream:
    """Micro-batch k is a function of k; those in `empty` are empty, those in `broken` miss an utterance."""

    def __init__(self, empty: tuple[int, ...] = (), broken: tuple[int, ...] = (), scale: float = 1.0) -> None:
        self.empty, self.broken, self.scale = empty, broken, scale
        self.started: list[tuple[int, int]] = []

    def batch(self, number: int) -> ToyBatch:
        generator = torch.Generator().manual_seed(number)
        size = 2 + number % 5
        x = torch.randn(size, 4, generator=generator) * self.scale
        mask = (torch.arange(size) < 1 + number % 3).float()
        ids = [f"{number}-{i}" for i in range(size)]
        lost = [(f"lost-{number}", "no such file")] if number in self.broken or number in self.empty else []
        return ToyBatch(x, mask, ids, empty=number in self.empty, unreadable=lost)

    def iterate(self, start: int, step: int = 1) -> Iterator[ToyBatch]:
        self.started.append((start, step))
        number = start
        while True:
            yield self.batch(number)
            number += step

    def once(self) -> Iterator[ToyBatch]:
        return iter([self.batch(1000 + i) for i in range(3)])


class Toy(PretrainTask):
    """Predict a fixed linear function of x through a layer with dropout, over the rows the mask counts."""

    def __init__(self, dropout: float = 0.3, weighted: bool = True) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.upstream = nn.Linear(4, 8)
        self.head = nn.Linear(8, 2)
        self.dropout, self.weighted = nn.Dropout(dropout), weighted
        self.register_buffer("average", torch.zeros(8))
        self.register_buffer("truth", torch.randn(4, 2, generator=generator))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)

    def forward(self, batch: ToyBatch) -> dict[str, Tensor]:
        predicted = self.head(self.dropout(torch.tanh(self.upstream(batch.x))))
        error = (predicted - batch.x @ self.truth).square().mean(-1)
        count = batch.mask.sum()
        values = {"loss": (error * batch.mask).sum() / count, "largest": error.detach().max()}
        return values | {"weight": count} if self.weighted else values

    def after_step(self, step: int) -> None:
        """Keep a noisy moving average, so that this hook's state and randomness matter too."""
        with torch.no_grad():
            self.average.mul_(0.9).add_(self.upstream.bias + 0.01 * torch.randn(8))


def adamw(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr=0.02, fused=True)


def schedule(step: int) -> float:
    return 1.0 - step / 100


def fit(run_dir: Path | None, task: PretrainTask | None = None, **changes: Any) -> tuple[PretrainTask, dict]:
    """Train a toy; `changes` go to the trainer where it knows them, else to `fit`."""
    task = task or Toy()
    trainer = Trainer(**{k: changes.pop(k, v) for k, v in SETTINGS.items()})
    arguments = {
        "batches": ToyStream(),
        "optimizer": adamw,
        "schedule": schedule,
        "seed": 5,
        "dev": ToyStream(),
    }
    return task, trainer.fit(task, run_dir=run_dir, **(arguments | changes))


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=1.0)


def compare(out: Path, accumulate: int) -> None:
    """Train in ways whose results must not depend on how micro-batches are spread over ranks."""
    empty = ToyStream(empty=(2, 7, 8, 9))  # the last two: a whole step
    options: dict[str, Any] = {"accumulate": accumulate, "max_unreadable": 1.0}
    gradient, _ = fit(None, max_steps=1, optimizer=sgd, clip_norm=0.0, **options)
    task, last = fit(out / "run", max_steps=7, batches=empty, **options)
    if int(os.environ.get("RANK", 0)) == 0:
        states = {"gradient": gradient.state_dict(), "trained": task.state_dict(), "last": last}
        torch.save(states, out / "states.pt")


def note_end(out: Path) -> None:
    """Write down whether this rank still is in a process group when all else has ended."""
    (out / f"end-{os.environ['RANK']}").write_text(str(distributed.is_initialized()))


def export(task: PretrainTask, run_dir: Path) -> None:
    write_tensors(run_dir / "model.safetensors", task.state_dict())


class Killer(ToyStream):
    """Kills the process when a given micro-batch is drawn."""

    def __init__(self, number: int, sent: int) -> None:
        super().__init__()
        self.number, self.sent = number, sent

    def batch(self, number: int) -> ToyBatch:
        if number == self.number:
            os.kill(os.getpid(), self.sent)
        return super().batch(number)


def main() -> None:
    """Run as `toy_training.py RUN_DIR [KILL|TERM at micro-batch NUMBER]`, or RANKS under torchrun."""
    torch.set_num_threads(1)
    run_dir = Path(sys.argv[1])
    if "RANKS" in sys.argv:
        atexit.register(note_end, run_dir)  # runs after what is registered later
        compare(run_dir, accumulate=1)
        return
    stream = Killer(int(sys.argv[3]), signal.Signals[f"SIG{sys.argv[2]}"]) if len(sys.argv) > 2 else ToyStream()
    task, _ = fit(run_dir, batches=stream)
    export(task, run_dir)


if __name__ == "__main__":
    main()
