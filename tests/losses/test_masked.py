"""Masked means against indexing."""

import pytest
import torch

from speechssl.errors import UserError
from speechssl.losses.masked import masked_error, masked_mean


@pytest.mark.parametrize("kind", ["l1", "mse"])
def test_value_count_and_gradient(kind: str) -> None:
    torch.manual_seed(0)
    predictions, targets = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 3)
    selected = torch.rand(2, 5, 3) < 0.4
    loss, count = masked_error(kind, predictions, targets, selected)
    difference = (predictions - targets)[selected]
    expected = difference.abs().mean() if kind == "l1" else difference.square().mean()
    torch.testing.assert_close(loss, expected)
    assert count == selected.sum()
    loss.backward()
    assert (predictions.grad[~selected] == 0).all()
    assert (predictions.grad[selected] != 0).all()


def test_nothing_selected_gives_zero_loss_and_gradient() -> None:
    predictions = torch.randn(2, 3, requires_grad=True)
    loss, count = masked_error("l1", predictions, torch.randn(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert count == 0
    assert (predictions.grad == 0).all()


def test_bfloat16_predictions_are_compared_in_float32() -> None:
    everything = torch.ones(4, dtype=torch.bool)
    loss, _ = masked_error("l1", torch.ones(4).bfloat16(), torch.full((4,), 1.001), everything)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(0.001, rel=1e-3)


def test_masked_mean() -> None:
    assert masked_mean(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False])) == 1.5
    assert masked_mean(torch.tensor([1.0]), torch.tensor([False])) == 0


def test_unknown_loss() -> None:
    with pytest.raises(UserError, match="unknown loss 'l3'"):
        masked_error("l3", torch.zeros(1), torch.zeros(1), torch.ones(1, dtype=torch.bool))
