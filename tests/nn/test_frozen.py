"""A frozen module is used and moved along, but is no part of its owner."""

import torch
from torch import nn

from speechssl.nn.frozen import Frozen


class Owner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Linear(2, 2)
        self.frozen = Frozen(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))


def test_it_is_neither_saved_nor_trained_nor_switched() -> None:
    owner = Owner().train()
    assert sorted(owner.state_dict()) == ["own.bias", "own.weight"]
    assert len(list(owner.parameters())) == 2
    assert not owner.frozen.module.training
    assert not any(p.requires_grad for p in owner.frozen.module.parameters())
    x = torch.randn(3, 2)
    assert torch.equal(owner.frozen(x), owner.frozen.module[0](x))


def test_it_moves_along() -> None:
    owner = Owner().double()
    assert owner.frozen.module[0].weight.dtype == torch.float64
