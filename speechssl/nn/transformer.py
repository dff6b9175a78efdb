"""Transformer encoder layers: the original, post-norm form (Vaswani et al., 2017; BERT) and the pre-norm one (ViT)."""

import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.nn.attention import SelfAttention


class PostNormLayer(nn.Module):
    """Self-attention and a feed-forward block (exact GELU), each followed by residual sum and LayerNorm."""

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

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Transform (B, T, D); `keys` (B, T) bool marks the positions that may be attended to."""
        attended = F.dropout(self.attention(x, keys), self.dropout, self.training)
        x = self.attention_norm(x + attended)
        expanded = self.contract(F.gelu(self.expand(x)))
        return self.output_norm(x + F.dropout(expanded, self.dropout, self.training))


class PreNormLayer(nn.Module):
    """LayerNorm, then self-attention or a feed-forward block (exact GELU), each added to its input."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        layer_norm_eps: float = 1e-6,
    ):
        super().__init__()
        self.dropout = dropout
        self.attention_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.attention = SelfAttention(hidden_size, num_heads, attention_dropout)
        self.output_norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.expand = nn.Linear(hidden_size, intermediate_size)
        self.contract = nn.Linear(intermediate_size, hidden_size)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Transform (B, T, D); `keys` (B, T) bool marks the positions that may be attended to."""
        x = x + F.dropout(self.attention(self.attention_norm(x), keys), self.dropout, self.training)
        expanded = self.contract(F.gelu(self.expand(self.output_norm(x))))
        return x + F.dropout(expanded, self.dropout, self.training)
