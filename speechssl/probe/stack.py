"""Heads of one shape computed as one, with a leading dimension for the heads.

A loop over small heads spends its time on starting small operations. Here the parameters of all heads lie in one
tensor each, and every head's own parameter is a view of its row: optimizers, clipping and checkpoints go on seeing
separate heads, and nothing is copied between the two.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call


class HeadStack:
    """Several heads of one shape whose forward `torch.vmap` can map over.

    Args:
        heads: their parameters are moved into common storage, with the values they have.
    """

    def __init__(self, heads: Sequence[nn.Module]):
        self.heads = list(heads)
        self.stacked: dict[str, Tensor] = {}
        for name, _ in self.heads[0].named_parameters():
            own = [head.get_parameter(name) for head in self.heads]
            joined = torch.stack([parameter.detach() for parameter in own]).requires_grad_()
            for parameter, row in zip(own, joined.detach(), strict=True):
                parameter.data = row
            joined.register_post_accumulate_grad_hook(lambda leaf, own=own: _hand_over(leaf, own))
            self.stacked[name] = joined

    def __call__(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs (G, B, ...) of G heads and the output lengths (B,), the same for all of them."""

        def one(parameters: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            return functional_call(self.heads[0], parameters, (states, lengths))

        outputs, out_lengths = torch.vmap(one, out_dims=(0, None))(self.stacked)
        return outputs, out_lengths

    def holds(self, heads: Sequence[nn.Module]) -> bool:
        """Tell whether these are the heads, with their parameters still here; moving one to a device moves them out."""
        return len(heads) == len(self.heads) and all(
            head.get_parameter(name).data_ptr() == row.data_ptr()
            for name, joined in self.stacked.items()
            for head, row in zip(heads, joined.detach(), strict=True)
        )


def _hand_over(leaf: Tensor, parameters: Sequence[nn.Parameter]) -> None:
    """Give every head the row of the gradient that is its own."""
    gradient, leaf.grad = leaf.grad, None
    for parameter, row in zip(parameters, gradient, strict=True):
        parameter.grad = row if parameter.grad is None else parameter.grad.add_(row)


def stackable(head: nn.Module) -> bool:
    """Tell whether a head says that `torch.vmap` can map its forward."""
    return bool(getattr(head, "stackable", False))
