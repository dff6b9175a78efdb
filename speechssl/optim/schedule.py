"""Learning-rate schedules: functions of the optimizer step (from 1) that multiply the peak rate."""

from dataclasses import dataclass

from speechssl.errors import UserError


@dataclass(frozen=True)
class WarmupLinear:
    """Linear rise to 1 over the first `warmup` share of the steps, then linear fall to 0 at the last one."""

    total_steps: int
    warmup: float = 0.07

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise UserError(f"a schedule needs the number of optimizer steps, at least 1; found {self.total_steps}")
        if not 0 <= self.warmup < 1:
            raise UserError(f"warmup is a share of the steps in [0, 1), found {self.warmup}")

    def __call__(self, step: int) -> float:
        """Return the multiplier of optimizer step number `step`, which counts from 1."""
        done = step / self.total_steps
        if done < self.warmup:
            return done / self.warmup
        return max(0.0, (1.0 - done) / (1.0 - self.warmup))
