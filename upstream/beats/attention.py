"""Self-attention with a relative position bias that a gate scales per query.

    score(i, j) = q_i . k_j / sqrt(d) + gate(q_i) * bias(j - i)

The gate is that of WavLM (Chen et al., 2022, https://arxiv.org/abs/2110.13900), computed from the projected query.
The published code materialises the repeated and the gated bias, raw, shifted and normalised scores in every layer, and
guards fp16 by dividing and multiplying by 32; none of this changes the result, so all of it is left out.
"""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.upstream.beats.kernels import attend
from speechssl.upstream.beats.relative import Bias

GATE_GROUP = 4  # outputs of the gate's linear map that are summed into one number


class GatedAttention(nn.Module):
    """Multi-head self-attention; `qkv` holds query, key and value in this order along its output.

    Args:
        hidden_size: D.
        num_heads: H.
        dropout: of the attention probabilities.
        gated: scale the bias by the gate; False adds it as it is.
    """

    def __init__(self, hidden_size: int, num_heads: int, dropout: float = 0.0, gated: bool = True):
        super().__init__()
        if num_heads < 1 or hidden_size % num_heads:
            raise UserError(f"hidden_size {hidden_size} must be a multiple of num_heads, found {num_heads} heads")
        self.num_heads, self.dropout, self.gated = num_heads, dropout, gated
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        if gated:
            self.gate = nn.Linear(hidden_size // num_heads, 2 * GATE_GROUP)
            self.gate_scale = nn.Parameter(torch.ones(num_heads))

    def forward(self, x: Tensor, bias: Bias, keys: Tensor | None = None) -> Tensor:
        """Attend over (B, n, D); `keys` (B, n) bool marks what may be attended to, at least one in every row."""
        B, n, D = x.shape
        query, key, value = self.qkv(x).view(B, n, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        gates = self.gates(query) if self.gated else None
        mixed = attend(query, key, value, gates, bias, keys, self.dropout if self.training else 0.0)
        return self.output(mixed.transpose(1, 2).reshape(B, n, D))

    def gates(self, query: Tensor) -> Tensor:
        """Return (B, H, n) float32 in (1, 2) at gate_scale 1, of queries (B, H, n, d) before their scaling.

        The linear map has eight outputs that are summed in two groups of four: a map to two, folded here.
        """
        weight = self.gate.weight.unflatten(0, (2, GATE_GROUP)).sum(dim=1)
        offset = self.gate.bias.unflatten(0, (2, GATE_GROUP)).sum(dim=1)
        with torch.autocast(query.device.type, enabled=False):
            update, reset = torch.sigmoid(query.float() @ weight.float().T + offset.float()).unbind(dim=-1)
            return update * (reset * self.gate_scale.float()[:, None] - 1.0) + 2.0
