"""Sinusoidal position encoding (Vaswani et al., 2017), sine and cosine interleaved over the channels."""

import torch
from torch import Tensor, nn


def sinusoids(length: int, size: int) -> Tensor:
    """Return (length, size) float32: sin(p / 10000^(i / size)) in even channels i, the cosine beside it.

    The angle is computed in float64: in float32 it is off by 1e-3 some ten thousand frames into a recording.
    """
    channels = torch.arange(0, size, 2, dtype=torch.float64)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * 10000.0 ** (-channels / size)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :size].float()


class SinusoidalPositions(nn.Module):
    """Position encodings of any length, kept between calls; nothing of it enters the state dict."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self._tables: dict[torch.device, Tensor] = {}

    def forward(self, length: int, device: torch.device) -> Tensor:
        """Return (length, size) float32 on `device`."""
        if torch.compiler.is_compiling():  # a traced program must neither read nor fill the cache
            return sinusoids(length, self.size).to(device)
        table = self._tables.get(device)
        if table is None or len(table) < length:
            # A table born in inference mode could not take part in a later backward pass.
            with torch.inference_mode(False):
                table = sinusoids(max(length, 512), self.size).to(device)
            self._tables[device] = table
        return table[:length]
