"""One hidden state for benchmarks that take a single one: by its number, or the mean of all."""

import torch
from torch import Tensor

from speechssl.errors import UserError


def chosen(states: list[Tensor], layer: int | str) -> Tensor:
    """Return one of the hidden states (B, T, D), or with "mean" the mean of all."""
    return torch.stack(states).mean(0) if layer == "mean" else states[layer]


def check_layer(layer: int | str, num_layers: int) -> None:
    """Raise UserError for a layer that an encoder with `num_layers` + 1 hidden states does not have."""
    whole = isinstance(layer, int) and not isinstance(layer, bool)
    if layer != "mean" and not (whole and -num_layers - 1 <= layer <= num_layers):
        raise UserError(f'expected a layer from 0 to {num_layers}, -1 for the last, or "mean"; found {layer!r}')
