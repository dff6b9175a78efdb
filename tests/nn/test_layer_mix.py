import math

import pytest
import torch

from speechssl.errors import UserError
from speechssl.nn.layer_mix import LayerMix


def test_hand_computed_case() -> None:
    mix = LayerMix(3)
    mix.logits.data = torch.tensor([0.0, math.log(2), math.log(3)])
    states = torch.tensor([1.0, 2.0, 6.0])[:, None].expand(2, 5, 3, 4)
    torch.testing.assert_close(mix.weights, torch.tensor([1 / 6, 1 / 3, 1 / 2]))
    torch.testing.assert_close(mix(states), torch.full((2, 5, 4), 23 / 6))  # (1 + 4 + 18) / 6 = 3.8333


def test_starts_as_the_plain_mean() -> None:
    states = torch.randn(2, 5, 13, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(LayerMix(13)(states), states.mean(dim=2))


def test_one_state_is_handed_through_without_a_parameter() -> None:
    mix = LayerMix(1)
    states = torch.randn(2, 5, 1, 8)
    assert not list(mix.parameters())
    assert torch.equal(mix(states), states[:, :, 0])
    assert mix.weights.tolist() == [1.0]


def test_wrong_number_of_states_is_refused() -> None:
    with pytest.raises(UserError, match="expects 3 hidden states, found 4"):
        LayerMix(3)(torch.zeros(2, 4, 8))


def test_learns_which_layer_carries_the_label() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (256,), generator=generator)
    states = torch.randn(256, 4, 6, generator=generator)
    states[:, 2, 0] += 6.0 * labels - 3.0
    torch.manual_seed(0)
    mix, head = LayerMix(4), torch.nn.Linear(6, 2)
    optimizer = torch.optim.Adam([*mix.parameters(), *head.parameters()], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(mix(states)), labels).backward()
        optimizer.step()
    assert int(mix.weights.argmax()) == 2
    assert float(mix.weights.detach().sum()) == pytest.approx(1.0, abs=1e-6)
