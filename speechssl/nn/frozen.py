"""A module that another one uses without owning it: teachers and tokenizers of a training."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Frozen(nn.Module):
    """Holds a module that moves along between devices, but is neither trained, saved nor put into training mode.

    Args:
        module: put into eval mode, without gradients; it is `self.module`.
    """

    module: nn.Module

    def __init__(self, module: nn.Module):
        super().__init__()
        object.__setattr__(self, "module", module.eval().requires_grad_(False))  # unseen by state_dict and parameters

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frozen":
        self.module._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def forward(self, *args: Any) -> Any:
        """Call the module."""
        return self.module(*args)
