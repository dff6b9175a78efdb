"""Multi-head self-attention with one fused projection, on PyTorch's scaled-dot-product kernels."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError


class SelfAttention(nn.Module):
    """Softmax attention of a sequence over itself.

    `qkv` holds query, key and value in this order along its output. No score matrix is kept for the backward
    pass. Attention dropout takes the CPU off its fast kernel: training there is twice as fast without it.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0):
        super().__init__()
        if num_heads < 1 or hidden_size % num_heads:
            raise UserError(f"hidden_size {hidden_size} must be a multiple of num_heads, found {num_heads} heads")
        self.num_heads = num_heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """Attend over (B, T, D).

        Args:
            x: (B, T, D).
            keys: (B, T) bool, True where a position may be attended to (at least one in every row);
                None is all.
        """
        B, T, D = x.shape
        projected = self.qkv(x)
        if projected.device.type == "cpu" and projected.dtype == torch.bfloat16:
            with torch.autocast("cpu", enabled=False):  # its bfloat16 kernel trains three times as slowly
                mixed = self._mix(projected.float(), keys).to(torch.bfloat16)
        else:
            mixed = self._mix(projected, keys)
        return self.output(mixed.transpose(1, 2).reshape(B, T, D))

    def _mix(self, projected: Tensor, keys: Tensor | None) -> Tensor:
        """Return (B, heads, T, D / heads) for the fused projection (B, T, 3 D)."""
        B, T, _ = projected.shape
        query, key, value = (part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in projected.chunk(3, dim=-1))
        mask = None if keys is None else keys[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
