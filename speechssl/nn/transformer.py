"""Transformer encoder layers: the original, post-norm form (Vaswani et al., 2017; BERT) and the pre-norm one (ViT)."""

import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.nn.attention import SelfAttention


class TransformerLayer(nn.Module):
    """The parts of a layer: self-attention and a feed-forward block (exact GELU), with a LayerNorm each."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_eps: float = 1e-5,
    ):
        super().__init__()
        self.dropout = dropout
        self.attention = SelfAttention(hidden_size, num_heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.expand = nn.Linear(hidden_size, intermediate_size)
        self.contract = nn.Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def attend(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Return what attention adds to (B, T, D); `keys` (B, T) bool marks what may be attended to."""
        return F.dropout(self.attention(x, keys), self.dropout, self.training)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Return what the feed-forward block adds to (B, T, D)."""
        return F.dropout(self.contract(F.gelu(self.expand(x))), self.dropout, self.training)


class PostNormLayer(TransformerLayer):
    """Each block is followed by residual sum and LayerNorm."""

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Transform (B, T, D); `keys` (B, T) bool marks the positions that may be attended to."""
        x = self.attention_norm(x + self.attend(x, keys))
        return self.output_norm(x + self.feed_forward(x))


class PreNormLayer(TransformerLayer):
    """Each block reads its input through a LayerNorm and is added to it."""

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Transform (B, T, D); `keys` (B, T) bool marks the positions that may be attended to."""
        x = x + self.attend(self.attention_norm(x), keys)
        return x + self.feed_forward(self.output_norm(x))
