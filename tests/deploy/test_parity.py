"""Differences of hidden states against hand-made models."""

import pytest
import torch
from torch import Tensor

from speechssl.deploy import parity
from speechssl.errors import UserError
from speechssl.hub import load_upstream


def fixed(*states: list[list[float]]) -> parity.Encoder:
    return lambda waveform: [torch.tensor(state) for state in states]


ONE = {"one": torch.zeros(800)}


def test_signals_are_the_same_every_time_and_of_several_lengths() -> None:
    first, again = parity.signals(), parity.signals()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len({len(waveform) for waveform in first.values()}) == len(first) >= 4
    assert all(float(waveform.abs().max()) < 1 for waveform in first.values())
    assert not torch.equal(parity.signals(1)["noise, 0.3 s"], first["noise, 0.3 s"])


def test_differences_are_counted_by_hand() -> None:
    ours = fixed([[9.0]], [[1.0, 2.0]], [[0.0, 0.0]])
    theirs = fixed([[1.0, -4.0]], [[0.0, 0.0]])
    found = parity.compare(ours, theirs, first=1, given=ONE)
    assert found[0] == {"state": 1, "largest": 4.0, "absolute": 6.0, "relative": 1.5}
    assert found[1] == {"state": 2, "largest": 0.0, "absolute": 0.0, "relative": 0.0}
    assert parity.worst(found) == 1.5
    parity.judge(found, "it", 1.5)
    with pytest.raises(UserError, match=r"state 1 of it differs by 1.5e\+00 of its largest value, tolerance=1.4"):
        parity.judge(found, "it", 1.4)


def test_the_worst_signal_counts() -> None:
    def shifted(waveform: Tensor) -> list[Tensor]:
        return [waveform[:3, None] + (0.5 if len(waveform) == 20 else 0.0)]

    given = {"short": torch.ones(10), "long": torch.ones(20)}
    assert parity.compare(shifted, lambda x: [x[:3, None]], given=given)[0]["absolute"] == 0.5


def test_what_is_not_finite_never_agrees() -> None:
    found = parity.compare(fixed([[float("nan")]]), fixed([[1.0]]), given=ONE)
    assert parity.worst(found) == float("inf")
    with pytest.raises(UserError, match="is not finite"):
        parity.judge(found, "it", 1e9)


def test_other_shapes_are_no_comparison() -> None:
    with pytest.raises(UserError, match="2 hidden states are held against 1"):
        parity.compare(fixed([[1.0]], [[1.0]]), fixed([[1.0]]), given=ONE)
    with pytest.raises(UserError, match="'one' has 1 frames of 2, the reference 2 of 1"):
        parity.compare(fixed([[1.0, 2.0]]), fixed([[1.0], [2.0]]), given=ONE)


def test_an_upstream_equals_itself_and_not_another() -> None:
    same, other = load_upstream("tera/debug@random"), load_upstream("tera/debug@random1")
    assert parity.worst(parity.compare(parity.encoder(same), parity.encoder(same))) == 0
    assert parity.worst(parity.compare(parity.encoder(same), parity.encoder(other))) > 0.1
