from typing import Any

import pytest

from speechssl.errors import UserError
from speechssl.optim.epochs import FinetuneSchedule


def schedule(**changes: Any) -> FinetuneSchedule:
    values = {"kind": "milestones", "total_steps": 100, "steps_per_epoch": 10, "warmup_steps": 0}
    return FinetuneSchedule(**values | {"start": 6, "every": 1, "gamma": 0.85} | changes)


def test_milestones_decay_after_whole_epochs() -> None:
    made = schedule()
    assert made(1) == made(60) == 1.0  # epochs 1 to 6
    assert made(61) == made(70) == pytest.approx(0.85)
    assert made(71) == pytest.approx(0.85**2)
    assert made(100) == pytest.approx(0.85**4)
    sparse = schedule(start=2, every=3, gamma=0.5)
    assert [sparse(step) for step in (20, 21, 50, 51, 80, 81)] == [1.0, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_warm_up_rises_linearly_and_multiplies() -> None:
    made = schedule(warmup_steps=80)
    assert made(1) == 1 / 80
    assert made(40) == 0.5
    assert made(71) == pytest.approx(71 / 80 * 0.85**2)
    assert made(80) == pytest.approx(0.85**2)


def test_linear_and_cosine_start_at_one_and_end_near_zero() -> None:
    linear, cosine = (schedule(kind=kind, warmup_steps=20) for kind in ("linear", "cosine"))
    for made in (linear, cosine):
        assert made(10) == 0.5
        assert made(20) == made(21) == 1.0
    assert linear(61) == 0.5
    assert cosine(61) == pytest.approx(0.5)
    assert cosine(41) == pytest.approx(0.5 + 0.5 * 2**-0.5)
    assert linear(100) == pytest.approx(1 / 80)
    assert schedule(kind="constant")(100) == 1.0
    assert schedule(kind="cosine", total_steps=1)(1) == 1.0


def test_a_floor_is_where_falling_schedules_end() -> None:
    linear, cosine = (schedule(kind=kind, warmup_steps=20, floor=0.2) for kind in ("linear", "cosine"))
    for made in (linear, cosine):
        assert made(10) == 0.5  # the warm-up rises from 0
        assert made(21) == 1.0
        assert made(61) == pytest.approx(0.6)  # half way between 1 and the floor
        assert made(101) == made(500) == pytest.approx(0.2)
    assert linear(100) == pytest.approx(0.2 + 0.8 / 80)
    assert cosine(41) == pytest.approx(0.2 + 0.8 * (0.5 + 0.5 * 2**-0.5))


def test_wrong_schedules_are_explained() -> None:
    with pytest.raises(UserError, match="nearest: 'linear'"):
        schedule(kind="lineal")
    with pytest.raises(UserError, match="warm-up of 100 steps leaves nothing"):
        schedule(warmup_steps=100)
    for wrong in ({"kind": "constant", "floor": 0.1}, {"kind": "cosine", "floor": 1.5}):
        with pytest.raises(UserError, match=r"lr_floor is the share of the peak rate, in 0..1, .* found"):
            schedule(**wrong)
