"""Layers that share one relative position bias, and BEATs' encoder: convolutional positions in front of them.

A stack can read all tokens of a clip, or the few that are kept in masked training: given their true places, distances
between them stay what they are in the whole clip.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.upstream.beats.layers import ConvPositions, Layer
from speechssl.upstream.beats.relative import RelativeBias

INITIAL_STD = 0.02


class _ScaleGradient(torch.autograd.Function):
    """The identity; gradients are multiplied by a factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class Stack(nn.Module):
    """L layers and their bias.

    Args:
        hidden_size: D.
        num_layers: L.
        num_heads: H.
        intermediate_size: of the feed-forward blocks; None = 4 D.
        num_buckets, max_distance: see `RelativeBias`.
        deep_norm: DeepNorm's residual scale and initialisation, for this number of layers.
        pre_norm: see `Layer`; not together with deep_norm.
        gated, activation, dropout, attention_dropout, activation_dropout: see `Layer`.
        layer_drop: probability with which training skips a layer.
        gradient_decay: factor on the gradient in front of every layer, the first one too: layer i (from 0) gets it to
            the power L - 1 - i, what lies below all layers to the power L.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        intermediate_size: int | None = None,
        num_buckets: int = 320,
        max_distance: int = 800,
        deep_norm: bool = True,
        pre_norm: bool = False,
        gated: bool = True,
        activation: str = "gelu",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        activation_dropout: float = 0.0,
        layer_drop: float = 0.0,
        gradient_decay: float = 1.0,
    ):
        super().__init__()
        if deep_norm and pre_norm:
            raise UserError("deep_norm is made for post-norm layers: turn off deep_norm or pre_norm")
        if num_layers < 1:
            raise UserError(f"expected at least one layer, found num_layers={num_layers}")
        self.layer_drop, self.gradient_decay = layer_drop, gradient_decay
        self.bias = RelativeBias(num_heads, num_buckets, max_distance)
        scale = (2 * num_layers) ** 0.25 if deep_norm else 1.0
        sizes = (hidden_size, num_heads, intermediate_size or 4 * hidden_size)
        dropouts = (dropout, attention_dropout, activation_dropout)
        self.layers = nn.ModuleList(
            Layer(*sizes, scale, pre_norm, gated, activation, *dropouts) for _ in range(num_layers)
        )
        self._initialise(deep_norm)

    @torch.no_grad()
    def _initialise(self, deep_norm: bool) -> None:
        nn.init.normal_(self.bias.table, std=INITIAL_STD)
        for part in self.layers.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=INITIAL_STD)
                nn.init.zeros_(part.bias)
        if not deep_norm:
            return
        gain = (8 * len(self.layers)) ** -0.25
        for layer in self.layers:
            query, key, value = layer.attention.qkv.weight.chunk(3)
            for weight in (query, key):
                nn.init.xavier_normal_(weight)
            for weight in (value, layer.attention.output.weight, layer.expand.weight, layer.contract.weight):
                nn.init.xavier_normal_(weight, gain)

    def forward(
        self, x: Tensor, keys: Tensor | None = None, places: Tensor | None = None, size: int | None = None
    ) -> list[Tensor]:
        """Return L + 1 states (B, n, D), the first is the input.

        Args:
            x: (B, n, D).
            keys: (B, n) bool, True on what may be attended to; None is all. A row without any attends to everything:
                its states mean nothing, but they are finite.
            places: (B, n) int64 indices of the tokens in their clip; None is 0 ... n - 1.
            size: above all places; None looks, which waits for a GPU.
        """
        if keys is not None:
            keys = keys | ~keys.any(dim=1, keepdim=True)
        if places is None:
            size = x.shape[1]
        elif size is None:
            size = int(places.max()) + 1
        bias = self.bias(size, places)
        states = [x]
        for layer in self.layers:
            if self.training and self.layer_drop and float(torch.rand(())) < self.layer_drop:
                states.append(x)
                continue
            if self.gradient_decay != 1.0 and x.requires_grad:
                x = _ScaleGradient.apply(x, self.gradient_decay)
            x = layer(x, bias, keys)
            states.append(x)
        return states


class Encoder(nn.Module):
    """Convolutional positions, LayerNorm and dropout in front of a stack; behind it the LayerNorm if it is pre-norm.

    Args:
        stack: of width D.
        hidden_size: D.
        conv_positions: taps of the convolution, in tokens.
        conv_position_groups: of its channels.
        pre_norm: as the stack is.
        dropout: probability.
    """

    def __init__(
        self,
        stack: Stack,
        hidden_size: int,
        conv_positions: int = 128,
        conv_position_groups: int = 16,
        pre_norm: bool = False,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.pre_norm, self.dropout = pre_norm, dropout
        self.positions = ConvPositions(hidden_size, conv_positions, conv_position_groups)
        self.norm = nn.LayerNorm(hidden_size)
        self.stack = stack

    def forward(
        self, tokens: Tensor, keys: Tensor | None = None, places: Tensor | None = None, size: int | None = None
    ) -> list[Tensor]:
        """Return L + 1 states (B, n, D) of embedded patches (B, n, D); the first is the input of layer 0.

        Args:
            tokens: (B, n, D).
            keys: (B, n) bool, False on padding; None is no padding.
            places: (B, n) int64 indices of the tokens in their clip; None is 0 ... n - 1.
            size: above all places; None looks, which waits for a GPU.
        """
        if keys is not None:
            tokens = tokens.masked_fill(~keys[..., None], 0.0)
        if places is not None and size is None:
            size = int(places.max()) + 1
        x = tokens + self._positions(tokens, places, size)
        if not self.pre_norm:
            x = self.norm(x)
        states = self.stack(F.dropout(x, self.dropout, self.training), keys, places, size)
        if self.pre_norm:
            states[-1] = self.norm(states[-1])
        return states

    def _positions(self, tokens: Tensor, places: Tensor | None, size: int | None) -> Tensor:
        """Return (B, n, D) from the convolution over the clip, where tokens that are not there are zeros."""
        if places is None:
            return self.positions(tokens)
        index = places[..., None].expand_as(tokens)
        grid = tokens.new_zeros(len(tokens), size, tokens.shape[2]).scatter_add(1, index, tokens)
        return self.positions(grid).gather(1, index)
