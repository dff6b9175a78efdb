"""A Transformer layer with DeepNorm residuals, and the convolutional position embedding in front of the first.

DeepNorm (Wang et al., 2022, https://arxiv.org/abs/2203.00555) scales the residual by (2 N)^(1/4) in a stack of N
post-norm layers. The convolution is that of wav2vec 2.0 (Baevski et al., 2020), weight-normalised along its taps.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.nn.long_convolution import convolve
from speechssl.upstream.beats.attention import GatedAttention
from speechssl.upstream.beats.relative import Bias


def _gated_linear(x: Tensor) -> Tensor:
    signal, gate = x.chunk(2, dim=-1)
    return signal * F.silu(gate)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
    "linear": nn.Identity(),
    "glu": _gated_linear,  # reads twice as many channels as it returns
}


class Layer(nn.Module):
    """Gated self-attention and a feed-forward block.

    Args:
        hidden_size: D.
        num_heads: H.
        intermediate_size: channels between the two linear maps of the feed-forward block.
        residual_scale: factor on what a post-norm block adds its output to.
        pre_norm: normalise a block's input, not the sum behind it.
        gated: see `GatedAttention`.
        activation: one of `ACTIVATIONS`.
        dropout, attention_dropout, activation_dropout: probabilities, of a block's output, of attention weights and
            behind the activation.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        residual_scale: float = 1.0,
        pre_norm: bool = False,
        gated: bool = True,
        activation: str = "gelu",
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"unknown activation {activation!r}; known: {known}{nearest(activation, ACTIVATIONS)}")
        self.residual_scale, self.pre_norm = residual_scale, pre_norm
        self.activation, self.dropout, self.activation_dropout = activation, dropout, activation_dropout
        self.attention = GatedAttention(hidden_size, num_heads, attention_dropout, gated)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.expand = nn.Linear(hidden_size, intermediate_size * (2 if activation == "glu" else 1))
        self.contract = nn.Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, bias: Bias, keys: Tensor | None = None) -> Tensor:
        """Transform (B, n, D); `keys` (B, n) bool marks the positions that may be attended to."""
        if self.pre_norm:
            x = x + self.attend(self.attention_norm(x), bias, keys)
            return x + self.feed_forward(self.output_norm(x))
        x = self.attention_norm(torch.add(self.attend(x, bias, keys), x, alpha=self.residual_scale))
        return self.output_norm(torch.add(self.feed_forward(x), x, alpha=self.residual_scale))

    def attend(self, x: Tensor, bias: Bias, keys: Tensor | None) -> Tensor:
        """Return what attention adds to (B, n, D)."""
        return F.dropout(self.attention(x, bias, keys), self.dropout, self.training)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Return what the feed-forward block adds to (B, n, D)."""
        x = F.dropout(ACTIVATIONS[self.activation](self.expand(x)), self.activation_dropout, self.training)
        return F.dropout(self.contract(x), self.dropout, self.training)


class ConvPositions(nn.Module):
    """Grouped convolution over the sequence whose output tells a token where it is.

    Args:
        hidden_size: D.
        taps: K; an even number sees K / 2 tokens back and K / 2 - 1 ahead.
        groups: of channels.
    """

    def __init__(self, hidden_size: int, taps: int = 128, groups: int = 16):
        super().__init__()
        if taps < 1 or groups < 1 or hidden_size % groups:
            raise UserError(
                f"expected a hidden_size divisible by conv_position_groups and conv_positions above 0, "
                f"found {hidden_size}, {groups} and {taps}"
            )
        self.groups = groups
        weight = torch.randn(hidden_size, hidden_size // groups, taps) * (4 / (taps * hidden_size)) ** 0.5
        self.direction = nn.Parameter(weight)
        self.magnitude = nn.Parameter(weight.norm(dim=(0, 1), keepdim=True))  # (1, 1, K)
        self.bias = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, n, D) of (B, n, D)."""
        weight = self.direction * (self.magnitude / self.direction.norm(dim=(0, 1), keepdim=True))
        return F.gelu(convolve(x, weight, self.bias, self.groups))
