"""Effective rank: known spectra, and no dependence on scale."""

import pytest
import torch

from speechssl.metrics.effective_rank import effective_rank


def test_directions_of_equal_weight_are_counted() -> None:
    for count in (1, 2, 5):
        vectors = torch.zeros(20, 8)
        vectors[torch.arange(20), torch.arange(20) % count] = 3.0
        assert effective_rank(vectors) == pytest.approx(count, rel=2e-5)


def test_two_directions_by_hand() -> None:
    shares = torch.tensor([0.75, 0.25], dtype=torch.float64)
    vectors = torch.diag(torch.tensor([3.0, 1.0]))
    assert effective_rank(vectors) == pytest.approx(float(torch.exp(-(shares * shares.log()).sum())), rel=1e-5)


def test_scale_does_not_matter_and_silence_is_finite() -> None:
    vectors = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    assert effective_rank(vectors) == pytest.approx(effective_rank(100 * vectors))
    assert 4 < effective_rank(vectors) <= 6
    assert effective_rank(torch.zeros(4, 3)) == pytest.approx(1.0, abs=1e-4)
