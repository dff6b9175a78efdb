"""Warm-up and linear decay at the points where the formula is known."""

from itertools import pairwise

import pytest

from speechssl.errors import UserError
from speechssl.optim.schedule import WarmupLinear


def test_published_recipe() -> None:
    multiplier = WarmupLinear(200_000, 0.07)
    assert multiplier(1) == pytest.approx(1 / 14_000)
    assert multiplier(7_000) == pytest.approx(0.5)
    assert multiplier(14_000) == pytest.approx(1.0)
    assert multiplier(107_000) == pytest.approx(0.5)
    assert multiplier(200_000) == 0
    assert multiplier(200_001) == 0


def test_piecewise_linear() -> None:
    values = [WarmupLinear(100, 0.1)(step) for step in range(1, 101)]
    up = [b - a for a, b in pairwise(values[:10])]
    down = [b - a for a, b in pairwise(values[9:])]
    assert up == pytest.approx([0.1] * 9)
    assert down == pytest.approx([-1 / 90] * 90)
    assert max(values) == pytest.approx(1.0)


def test_no_warmup_and_a_single_step() -> None:
    assert WarmupLinear(10, 0.0)(1) == pytest.approx(0.9)
    assert WarmupLinear(1)(1) == 0


@pytest.mark.parametrize(("steps", "warmup"), [(0, 0.1), (10, 1.0), (10, -0.1)])
def test_impossible_settings(steps: int, warmup: float) -> None:
    with pytest.raises(UserError):
        WarmupLinear(steps, warmup)
