"""Weighted averages that leave out what is not finite, and carry over."""

import pytest
import torch

from speechssl.train.window import Window

CPU = torch.device("cpu")


def scalars(**values: float) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def test_means_are_weighted() -> None:
    window = Window(CPU)
    window.add(scalars(loss=1.0, extra=5.0), torch.tensor(1.0))
    window.add(scalars(loss=3.0, extra=7.0), torch.tensor(3))
    assert window.means() == {"loss": 2.5, "extra": 6.5}


def test_what_is_not_finite_is_left_out() -> None:
    window = Window(CPU)
    window.add(scalars(loss=torch.nan, other=2.0), torch.tensor(10.0))
    window.add(scalars(loss=4.0, other=2.0), torch.tensor(1.0))
    window.add(scalars(loss=torch.nan, other=torch.inf), torch.tensor(0.0))
    assert window.means() == {"loss": 4.0, "other": 2.0}
    lost = Window(CPU)
    lost.add(scalars(loss=torch.inf), torch.tensor(1.0))
    assert lost.means() == {"loss": None}


def test_names_may_come_and_go() -> None:
    window = Window(CPU)
    window.add(scalars(loss=1.0), torch.tensor(1.0))
    window.add(scalars(new=8.0, loss=3.0), torch.tensor(1.0))
    window.add(scalars(loss=5.0), torch.tensor(2.0))
    assert window.means() == {"loss": pytest.approx(14 / 4), "new": 8.0}


def test_state_carries_over_to_the_bit() -> None:
    whole, resumed = Window(CPU), Window(CPU)
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    for i, value in enumerate(values):
        whole.add({"loss": value}, value)
        resumed.add({"loss": value}, value)
        if i == 9:
            resumed = Window(CPU).merge([resumed.state()])
    assert whole.means() == resumed.means()


def test_merging_adds_ranks() -> None:
    windows = [Window(CPU), Window(CPU), Window(CPU)]
    windows[0].add(scalars(loss=1.0), torch.tensor(1.0))
    windows[2].add(scalars(loss=4.0, b=1.0), torch.tensor(2.0))
    assert Window(CPU).merge([w.state() for w in windows]).means() == {"loss": 3.0, "b": 1.0}
