"""The small Transformer that reads the codes of a clip and estimates what a teacher says of each patch.

Only the training of a tokenizer has it. Its layers are those of BEATs, with a relative position bias of their own and
without convolutional positions, as in OpenBEATs (https://arxiv.org/abs/2507.14129).
"""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError, nearest
from speechssl.upstream.beats.distilled import DistilledTokenizer
from speechssl.upstream.beats.encoder import Stack

HEADS = ("layernorm", "mlp_tanh")


class Estimator(nn.Module):
    """Linear map to the tokenizer's width D, a stack of layers shaped like the tokenizer's, LayerNorm, and a head.

    Args:
        tokenizer: whose codes are read.
        size: numbers per patch to estimate.
        num_layers: of the stack.
        head: "layernorm" ends with the LayerNorm, and a linear map where `size` is not D; "mlp_tanh" with two linear
            maps around a tanh, as BEiT v2's decoder does.
    """

    def __init__(self, tokenizer: DistilledTokenizer, size: int, num_layers: int = 3, head: str = "layernorm") -> None:
        super().__init__()
        if head not in HEADS:
            raise UserError(f"unknown estimator_head {head!r}; known: {', '.join(HEADS)}{nearest(head, HEADS)}")
        D = tokenizer.upstream.width
        self.embedding = nn.Linear(tokenizer.code_size, D)
        self.stack = Stack(num_layers=num_layers, **tokenizer.upstream.stack_config)
        self.norm = nn.LayerNorm(D)
        if head == "mlp_tanh":
            self.head: nn.Module = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, size))
        else:
            self.head = nn.Linear(D, size) if size != D else nn.Identity()
        for layer in (self.embedding, *self.head.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, codes: Tensor, valid: Tensor) -> Tensor:
        """Return (B, N, size) float32 of quantised vectors (B, N, d) of which those in `valid` (B, N) count."""
        look = valid.device.type == "cpu" and not torch.compiler.is_compiling()
        keys = None if look and bool(valid.all()) else valid
        hidden = self.stack(self.embedding(codes), keys)[-1]
        return self.head(self.norm(hidden)).float()
