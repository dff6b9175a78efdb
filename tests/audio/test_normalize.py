"""Per-utterance normalisation: values, constants, gradients, and the two forms against each other."""

import pytest
import torch

from speechssl.audio.normalize import Normalization, normalize_utterances, normalize_utterances_
from speechssl.errors import UserError

FORMS = [normalize_utterances, lambda x, n, **kw: normalize_utterances_(x.clone(), n, **kw)]


def features() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(3, 40, 5, generator=generator) - 8, torch.tensor([40, 23, 2])


@pytest.mark.parametrize("form", FORMS)
def test_values_equal_the_plain_formula(form: object) -> None:
    x, lengths = features()
    normalized, centred = form(x, lengths), form(x, lengths, variance=False)
    for row, length in enumerate(lengths.tolist()):
        clip = x[row, :length].double()
        mean, std = clip.mean(0), clip.std(0)
        torch.testing.assert_close(normalized[row, :length], ((clip - mean) / (std + 1e-10)).float(), rtol=0, atol=2e-5)
        torch.testing.assert_close(centred[row, :length], (clip - mean).float(), rtol=0, atol=2e-6)
        assert normalized[row, :length].mean(0).abs().max() < 1e-5
        assert (normalized[row, :length].std(0) - 1).abs().max() < 1e-5


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [0.0, -15.942385, -23.025851, 1e6])
def test_a_channel_that_never_changes_becomes_zero(form: object, value: float) -> None:
    x = torch.full((2, 1237, 3), value)
    assert not form(x, torch.tensor([1237, 501]))[0].any()


def test_the_gradient_is_right_and_finite_for_constants() -> None:
    x, lengths = features()
    x = x.double().requires_grad_()
    inside = torch.arange(40) < lengths[:, None]
    assert torch.autograd.gradcheck(lambda y: normalize_utterances(y, lengths)[inside], x)
    constant = torch.ones(1, 9, 2, requires_grad=True)
    normalize_utterances(constant, torch.tensor([9])).square().sum().backward()
    assert constant.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "utterence"}, "nearest: 'utterance'"),
        ({"kind": "fixed"}, "needs mean and a positive std"),
        ({"kind": "fixed", "mean": 1.0, "std": 0.0}, "needs mean and a positive std"),
        ({"kind": "none", "mean": 1.0, "std": 1.0}, "belong to normalization='fixed'"),
        ({"kind": "none", "std_factor": 0.0}, "std_factor must be positive"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Normalization(**settings)
