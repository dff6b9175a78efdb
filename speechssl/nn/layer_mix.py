"""Learned weighted sum of an upstream's hidden states, as in SUPERB (Yang et al., 2021, https://arxiv.org/abs/2105.01051)."""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError


class LayerMix(nn.Module):
    """Softmax-weighted sum over hidden states; all weights equal at the start.

    An upstream with one hidden state has nothing to learn: the module then holds no parameter and hands it
    through.

    Args:
        num_states: number of hidden states, layers + 1.
    """

    def __init__(self, num_states: int):
        super().__init__()
        if num_states < 1:
            raise UserError(f"a layer mix needs at least one hidden state, found {num_states}")
        self.num_states = num_states
        self.logits = nn.Parameter(torch.zeros(num_states)) if num_states > 1 else None

    @property
    def weights(self) -> Tensor:
        """(num_states,) weights that sum to 1."""
        return torch.ones(1) if self.logits is None else self.logits.softmax(dim=0)

    def forward(self, states: Tensor) -> Tensor:
        """Mix (..., L + 1, D) into (..., D)."""
        if states.shape[-2] != self.num_states:
            raise UserError(f"this layer mix expects {self.num_states} hidden states, found {states.shape[-2]}")
        return states[..., 0, :] if self.logits is None else torch.matmul(self.weights, states)
