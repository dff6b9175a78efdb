import pytest
import torch

from speechssl.nn.mixup import beta, mix_waveforms


def test_values_by_hand() -> None:
    first, second = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([2.0, 4.0])
    # without their means -3, -1, 1, 3 and -1, 1; mixed -2.5, -0.5, 0.75, 2.25, whose mean is 0
    expected = torch.tensor([-2.5, -0.5, 0.75, 2.25])
    torch.testing.assert_close(mix_waveforms(first, second, 0.75), expected)


def test_a_longer_partner_is_cut_and_the_mean_removed_again() -> None:
    first, second = torch.tensor([1.0, -1.0]), torch.tensor([3.0, 1.0, -4.0])
    mixed = mix_waveforms(first, second, 0.5)  # 2.0 and 0.0 before the mean is removed
    torch.testing.assert_close(mixed, torch.tensor([1.0, -1.0]))


def test_a_share_of_one_keeps_the_first() -> None:
    first = torch.randn(100, generator=torch.Generator().manual_seed(0))
    mixed = mix_waveforms(first, torch.ones(50).cumsum(0), 1.0)
    torch.testing.assert_close(mixed, first - first.mean(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [1, 2, 10])
def test_shares_have_the_moments_of_a_beta_distribution(shape: int) -> None:
    drawn = beta(torch.arange(20_000), 3, shape).double()
    assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * shape + 1)), rel=0.05)
    lower = {1: 0.25, 2: 0.15625, 10: 0.0089}[shape]  # of the regularised incomplete beta function at 1/4
    assert float((drawn < 0.25).double().mean()) == pytest.approx(lower, abs=0.01)
