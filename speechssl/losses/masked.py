"""Mean errors over selected elements, without data-dependent shapes: nothing waits for the device."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError

_ERRORS: dict[str, Callable[..., Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}


def masked_mean(values: Tensor, selected: Tensor) -> Tensor:
    """Return the mean of `values` where the bool `selected` (same shape) is True; 0 if nothing is."""
    return (values * selected).sum() / selected.sum().clamp(min=1)


def masked_error(kind: str, predictions: Tensor, targets: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean error over the selected elements (0 where there are none) and their number, both
    float32.

    Args:
        kind: "l1" (absolute error) or "mse" (squared error).
        predictions, targets: any one shape; computed in float32.
        selected: bool of that shape. Elements outside it get no gradient at all.
    """
    if kind not in _ERRORS:
        raise UserError(f"unknown loss {kind!r}; known: {', '.join(_ERRORS)}")
    errors = _ERRORS[kind](predictions.float(), targets.float(), reduction="none")
    count = selected.sum().float()
    return (errors * selected).sum() / count.clamp(min=1.0), count
