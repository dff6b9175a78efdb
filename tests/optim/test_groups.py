"""Which parameters are decayed, and which rate each layer has."""

import pytest
import torch
from torch import nn

from speechssl.errors import UserError
from speechssl.optim.groups import decay_groups, layer_factors, with_rates


def test_matrices_are_decayed_biases_and_norms_are_not() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Conv1d(4, 2, 3))
    decayed, others = decay_groups(module, 0.01)
    assert decayed["weight_decay"] == 0.01
    assert others["weight_decay"] == 0.0
    assert decayed["params"] == [module[0].weight, module[2].weight]
    assert others["params"] == [module[0].bias, module[1].weight, module[1].bias, module[2].bias]


def test_frozen_parameters_and_empty_groups_are_left_out() -> None:
    module = nn.Linear(2, 2)
    module.weight.requires_grad_(False)
    groups = decay_groups(module, 0.1)
    assert [group["weight_decay"] for group in groups] == [0.0]
    torch.optim.AdamW(groups)


class Encoder(nn.Module):
    """An embedding, three layers below a further module, a last norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, 2, bias=False)
        self.stack = nn.Module()
        self.stack.layers = nn.ModuleList(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)) for _ in range(3))
        self.norm = nn.LayerNorm(2)


def test_rates_fall_by_layer_from_the_top() -> None:
    module = Encoder()
    factors = layer_factors(module, 0.5)
    expected = {"embedding": 0.125, "stack.layers.0": 0.25, "stack.layers.1": 0.5, "stack.layers.2": 1.0, "norm": 1.0}
    for name, parameter in module.named_parameters():
        assert factors[parameter] == next(value for key, value in expected.items() if name.startswith(key)), name


def test_groups_are_split_by_rate_and_keep_their_weight_decay() -> None:
    module = Encoder()
    groups = with_rates(decay_groups(module, 0.01), 0.4, layer_factors(module, 0.5))
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == len(list(module.parameters())) == sum(len(group["params"]) for group in groups)
    assert found[id(module.embedding.weight)] == (0.05, 0.01)
    assert found[id(module.stack.layers[0][0].weight)] == (0.1, 0.01)
    assert found[id(module.stack.layers[1][0].bias)] == (0.2, 0.0)
    assert found[id(module.norm.weight)] == (0.4, 0.0)
    assert [group["lr"] for group in with_rates(decay_groups(module, 0.01), 0.4)] == [0.4, 0.4]
    optimizer = torch.optim.SGD(groups)
    before = [p.detach().clone() for p in module.parameters()]
    sum(p.sum() for p in module.parameters()).backward()
    optimizer.step()
    for (name, after), old in zip(module.named_parameters(), before, strict=True):
        moved = old - after.detach()  # rate times a gradient of 1, and decay
        if after.ndim == 1:
            torch.testing.assert_close(moved, torch.full_like(old, found[id(after)][0]), msg=name)


def test_modules_without_layers_are_refused() -> None:
    with pytest.raises(UserError, match=r"layers.0., .* which Linear does not have"):
        layer_factors(nn.Linear(2, 2), 0.5)
    assert layer_factors(nn.Identity(), 0.5) == {}
