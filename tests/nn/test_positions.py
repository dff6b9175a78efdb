"""Sinusoidal positions: values far out, and a cache that never breaks training."""

import math

import pytest
import torch

from speechssl.nn.positions import SinusoidalPositions, sinusoids


@pytest.mark.parametrize(("position", "channel"), [(0, 0), (0, 1), (1, 2), (1500, 47), (24000, 11)])
def test_values_against_the_formula(position: int, channel: int) -> None:
    angle = position / 10000 ** (2 * (channel // 2) / 48)
    expected = math.cos(angle) if channel % 2 else math.sin(angle)
    assert sinusoids(position + 1, 48)[position, channel].item() == pytest.approx(expected, abs=1e-7)


def test_the_cache_grows_and_agrees() -> None:
    positions = SinusoidalPositions(8)
    device = torch.device("cpu")
    short = positions(5, device)
    long = positions(3000, device)
    assert torch.equal(short, long[:5])
    assert torch.equal(long, sinusoids(3000, 8))
    assert positions(10, device).data_ptr() == long.data_ptr()
    assert not positions.state_dict()


def test_a_table_first_made_under_inference_mode_can_be_trained_with() -> None:
    positions = SinusoidalPositions(4)
    with torch.inference_mode():
        positions(3, torch.device("cpu"))
    x = torch.ones(3, 4, requires_grad=True)
    (x * positions(3, torch.device("cpu"))).sum().backward()
    assert x.grad is not None
