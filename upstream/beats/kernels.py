"""Ways to compute attention with a gated bias; `attend` takes the one that suits device, precision and length.

Everywhere the scores of a batch are made block by block, so that memory stays bounded for recordings of any length, and
on a CPU inside the caches. Of 10 s clips (N = 496) one core of a CPU attends 1.4 times as fast in blocks as at once in
inference, 2.4 times in training. There, SDPA is the fastest form in float32 without gradients; with them it falls back
to several passes over the scores, and its bfloat16 kernel is slower than the float32 one, so that a product, a softmax
in float32 and a product are faster. On a GPU it is SDPA, and flex_attention for long recordings without gradients,
where even the bias of a block is not made.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

from speechssl.upstream.beats.relative import Bias

logger = logging.getLogger(__name__)

BLOCK = {"cpu": 2**22}  # scores that are made at once: 16 MiB in float32
BLOCK_ELSEWHERE = 2**27
LONG = 2048  # tokens (41 s) beyond which training makes scores again for the backward pass, and a GPU uses flex


def attend(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor | None, bias: Bias, keys: Tensor | None, dropout: float
) -> Tensor:
    """Return (B, H, n, d): for every query the mean of the values, weighted by the softmax of its scores.

    Args:
        query, key, value: (B, H, n, d).
        gates: (B, H, n) float32 that scale the bias of a query; None is 1.
        bias: of this forward.
        keys: (B, n) bool, True where a patch may be attended to; None is all.
        dropout: probability with which an attention weight is dropped.
    """
    n, learns = query.shape[2], torch.is_grad_enabled() and (query.requires_grad or bias.offsets.requires_grad)
    if query.is_cuda and n > LONG and not learns and not dropout:
        mixed = _flex(query, key, value, gates, bias, keys)
        if mixed is not None:
            return mixed
    plain = query.device.type == "cpu" and (learns or bool(dropout) or query.dtype != torch.float32)
    function = product_softmax_product if plain else fused
    parts = []
    for clips, blocks in _blocks(query):
        rows = []
        for block in blocks:
            part = (query[clips, :, block], key[clips], value[clips])
            gate = None if gates is None else gates[clips, :, block, None]
            mask = None if keys is None else keys[clips, None, None, :]
            rows.append(_block(function, learns and n > LONG, *part, gate, bias, (clips, block), mask, dropout))
        parts.append(rows[0] if len(rows) == 1 else torch.cat(rows, dim=2))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def fused(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor | None, bias: Tensor, keys: Tensor | None, dropout: float
) -> Tensor:
    """Attend with PyTorch's kernels: bias (1 or B, H, m, n), gate (B, H, m, 1), keys (B, 1, 1, n)."""
    mask = bias.expand(len(query), -1, -1, -1) if gate is None else gate * bias
    if keys is not None:
        mask = mask.masked_fill(~keys, float("-inf"))
    return F.scaled_dot_product_attention(query, key, value, mask.to(query.dtype), dropout)


def product_softmax_product(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor | None, bias: Tensor, keys: Tensor | None, dropout: float
) -> Tensor:
    """Attend with the scores written out; arguments as those of `fused`."""
    scores = ((query * query.shape[3] ** -0.5) @ key.transpose(2, 3)).float()
    scores = scores.add_(bias) if gate is None else scores.addcmul_(gate, bias)  # the product needs no copy of it
    if keys is not None:
        scores = scores.masked_fill_(~keys, float("-inf"))
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return weights.to(value.dtype) @ value


def flex(
    query: Tensor, key: Tensor, value: Tensor, gates: Tensor | None, bias: Bias, keys: Tensor | None
) -> Tensor:
    """Attend with flex_attention, which looks the bias up for each score; arguments as those of `attend`."""
    offsets, places, zero = bias.offsets, bias.places, bias.size - 1

    def score(value: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        distance = j - i if places is None else places[b, j] - places[b, i]
        added = offsets[h, distance + zero]
        value = value + (added if gates is None else gates[b, h, i] * added)
        return value if keys is None else torch.where(keys[b, j], value, -float("inf"))

    return flex_attention(query, key, value, score_mod=score)


@cache
def compiled_flex() -> Callable[..., Tensor]:
    """Return `flex` compiled; without that it is slow and makes all scores."""
    return torch.compile(flex)


def _flex(*arguments: Tensor | Bias | None) -> Tensor | None:
    """Return the result of the compiled `flex`, or None, with a warning, where it does not run."""
    try:
        return compiled_flex()(*arguments)
    except RuntimeError as error:  # no compiler on this machine, or not for this device
        logger.warning("flex_attention does not run here (%s); attending block by block", str(error).split("\n")[0])
        return None


def _blocks(query: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    """Yield slices over clips with their slices over queries; a block of both has a limited number of scores."""
    B, H, n, _ = query.shape
    limit = BLOCK.get(query.device.type, BLOCK_ELSEWHERE)
    clips, rows = max(1, limit // (H * n * n)), min(n, max(1, limit // (H * n)))
    for first in range(0, B, clips):
        yield slice(first, first + clips), [slice(start, min(n, start + rows)) for start in range(0, n, rows)]


def _block(
    function: Callable[..., Tensor],
    again: bool,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor | None,
    bias: Bias,
    where: tuple[slice, slice],
    keys: Tensor | None,
    dropout: float,
) -> Tensor:
    """Return `function` of one block; `again` computes it anew in the backward pass instead of keeping its scores."""

    def run(query: Tensor, key: Tensor, value: Tensor, gate: Tensor | None) -> Tensor:
        return function(query, key, value, gate, bias.block(*where), keys, dropout)

    return checkpoint(run, query, key, value, gate, use_reentrant=False) if again else run(query, key, value, gate)
