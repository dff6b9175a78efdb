"""Learning-rate schedules of fine-tuning: a warm-up in steps, then a decay by epoch or over the whole training."""

import math
from dataclasses import dataclass

from speechssl.errors import UserError, nearest

KINDS = ("milestones", "linear", "cosine", "constant")
FALLING = ("linear", "cosine")  # towards an end


@dataclass(frozen=True)
class FinetuneSchedule:
    """Multiplier of the peak rate at optimizer step 1, 2, ...

    Attributes:
        kind: "milestones" multiplies by `gamma` after epoch `start` and every `every` epochs from then on; "linear" and
            "cosine" fall from 1 towards `floor` at the end; "constant" stays.
        total_steps: optimizer steps in all.
        steps_per_epoch: optimizer steps.
        warmup_steps: steps of a linear rise, by which the decay is multiplied.
        start: epochs before the first milestone.
        every: epochs between milestones.
        gamma: factor at a milestone.
        floor: where "linear" and "cosine" end; the warm-up rises from 0 all the same.
    """

    kind: str
    total_steps: int
    steps_per_epoch: int
    warmup_steps: int
    start: int
    every: int
    gamma: float
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"unknown schedule {self.kind!r}; known: {', '.join(KINDS)}{nearest(self.kind, KINDS)}")
        if not 0 <= self.floor <= 1 or (self.floor and self.kind not in FALLING):
            raise UserError(
                f"finetuning.lr_floor is the share of the peak rate, in 0..1, at which schedule={' or '.join(FALLING)} "
                f"ends; found {self.floor} with schedule={self.kind}"
            )
        if self.warmup_steps >= self.total_steps:
            raise UserError(
                f"a warm-up of {self.warmup_steps} steps leaves nothing of {self.total_steps} steps in all; lower "
                "finetuning.warmup_steps or train longer"
            )

    def __call__(self, step: int) -> float:
        """Return the multiplier of optimizer step number `step`, which counts from 1."""
        rise = min(1.0, step / self.warmup_steps) if self.warmup_steps else 1.0
        return rise * self._decay(step)

    def _decay(self, step: int) -> float:
        if self.kind == "constant":
            return 1.0
        if self.kind == "milestones":
            done = (step - 1) // self.steps_per_epoch  # whole epochs before this step
            passed = (done - self.start) // self.every + 1 if done >= self.start else 0
            return self.gamma**passed
        progress = min(1.0, max(0.0, (step - 1 - self.warmup_steps) / (self.total_steps - self.warmup_steps)))
        fallen = progress if self.kind == "linear" else 0.5 * (1.0 - math.cos(math.pi * progress))
        return 1.0 - (1.0 - self.floor) * fallen
