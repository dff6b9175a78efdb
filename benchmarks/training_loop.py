"""Cost of the training loop: `Trainer.fit` against the same steps written out by hand (a ratio below 1 is overhead).

Run: python benchmarks/training_loop.py [--steps 300 --rounds 9 --json OUT]
"""

from collections.abc import Iterator

import torch
from side_by_side import arguments, interleave, report
from torch import Tensor, nn

from speechssl.interfaces import Batch, PretrainTask
from speechssl.train.loop import Trainer

SAMPLES = 64


class Tiny(PretrainTask):
    """One small matrix, so that nearly all that is measured is the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SAMPLES, SAMPLES)
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(SAMPLES) * 0.5)
            self.linear.bias.zero_()

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": (self.linear(batch.waveforms) - batch.waveforms).square().mean()}


class Stream:
    """Batch k is a function of k."""

    def iterate(self, start: int, step: int = 1) -> Iterator[Batch]:
        number = start
        while True:
            waveforms = torch.randn(8, SAMPLES, generator=torch.Generator().manual_seed(number))
            yield Batch(waveforms, torch.full((8,), SAMPLES), [str(i) for i in range(8)], torch.arange(8))
            number += step


def optimizer(task: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(task.parameters(), lr=1e-3, fused=True)


def by_hand(steps: int) -> Tiny:
    task, stream = Tiny(), Stream().iterate(0)
    adam = optimizer(task)
    for _ in range(steps):
        adam.zero_grad(set_to_none=True)
        task(next(stream))["loss"].backward()
        nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        adam.step()
    return task


def by_loop(steps: int) -> Tiny:
    task = Tiny()
    settings = {"save_every": 0, "log_every": 100, "eval_every": 0, "accumulate": 1, "precision": "32-true"}
    settings |= {"accelerator": "cpu", "devices": 1, "clip_norm": 1.0, "keep_checkpoints": 1, "max_unreadable": 0.01}
    trainer = Trainer(max_steps=steps, progress=False, **settings)
    trainer.fit(task, Stream(), optimizer=optimizer, schedule=lambda step: 1.0, seed=0)
    return task


def main() -> None:
    given = arguments(__doc__.splitlines()[0], steps=300)
    a, b = by_hand(given.steps).linear.weight, by_loop(given.steps).linear.weight
    difference = (a - b).abs().max().item()
    if difference > 1e-5:
        raise SystemExit(f"the two sides differ by {difference:.1e}: nothing was timed")
    sides = {"by hand": lambda: by_hand(given.steps), "Trainer.fit": lambda: by_loop(given.steps)}
    seconds = interleave(sides, given.rounds)
    report(f"training loop, {given.steps} steps", seconds, f"weights differ by {difference:.1e}", given)
    ours, theirs = min(seconds["Trainer.fit"]), min(seconds["by hand"])
    print(f"  the loop adds {1000 * (ours - theirs) / given.steps:.2f} ms a step")


if __name__ == "__main__":
    main()
