"""Which parameters are decayed."""

import torch
from torch import nn

from speechssl.optim.groups import decay_groups


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
