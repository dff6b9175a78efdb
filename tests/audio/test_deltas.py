"""Deltas against torchaudio and by hand."""

import pytest
import torch

from speechssl.audio.deltas import append_deltas
from speechssl.errors import UserError


@pytest.mark.parametrize("window", [3, 5, 9])
def test_deltas_equal_torchaudio_for_every_length(window: int) -> None:
    functional = pytest.importorskip("torchaudio.functional")
    torch.manual_seed(0)
    lengths = torch.tensor([20, 1, 7, 2])
    features = torch.randn(4, 20, 6)
    ours = append_deltas(features, lengths, order=2, window=window)
    assert ours.shape == (4, 20, 18)
    for row, length in enumerate(lengths.tolist()):
        static = features[row, :length]
        first = functional.compute_deltas(static.T, win_length=window).T
        second = functional.compute_deltas(first.T, win_length=window).T
        expected = torch.cat([static, first, second], dim=1)
        torch.testing.assert_close(ours[row, :length], expected, rtol=0, atol=1e-6)


def test_a_ramp_has_its_slope() -> None:
    ramp = torch.arange(10.0).view(1, 10, 1)
    delta = append_deltas(ramp, torch.tensor([10]), order=1)[0, :, 1]
    assert torch.equal(delta[2:-2], torch.ones(6))
    # At the first frame two of the four neighbours repeat it: (1 * (1 - 0) + 2 * (2 - 0)) / 10.
    assert delta[0] == pytest.approx(0.5)


def test_order_0_changes_nothing() -> None:
    features = torch.randn(2, 5, 3)
    assert append_deltas(features, torch.tensor([5, 4]), order=0) is features


@pytest.mark.parametrize(("order", "window"), [(-1, 5), (1, 4), (1, 1)])
def test_wrong_settings_are_named(order: int, window: int) -> None:
    with pytest.raises(UserError, match=f"found {order} and {window}"):
        append_deltas(torch.zeros(1, 5, 3), torch.tensor([5]), order, window)
