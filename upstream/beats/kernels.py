"""Ways to compute attention with a gated bias; `attend` takes the one that suits device, precision and length.

Everywhere the scores of a batch are made block by block, so that memory stays bounded for recordings of any length, and
on a CPU inside the caches. There, SDPA is the fastest form in float32 without gradients; with them it falls back to
several passes over the scores, and its bfloat16 kernel is slower than the float32 one, so that a product, a softmax in
float32 and a product are faster. On a GPU it is SDPA, and flex_attention for long recordings without gradients, where
even the bias of a block is not made.
"""

import logging
from collections.abc import Callable
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
STEPS = 2**15  # of the probability of dropout
FEWEST_ROWS = 128  # queries of a block, where it can have them by holding fewer heads: products of fewer are slow
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
    if torch.compiler.is_exporting():  # one block of unknown length
        gate, mask = (None if gates is None else gates[..., None]), (None if keys is None else keys[:, None, None])
        return fused(query, key, value, gate, bias.block(slice(None), slice(None), slice(None)), mask, dropout)
    plain = query.device.type == "cpu" and (learns or bool(dropout) or query.dtype != torch.float32)
    function = product_softmax_product if plain else fused

    def part(clips: slice, heads: slice, rows: slice) -> Tensor:
        inputs = (query[clips, heads, rows], key[clips, heads], value[clips, heads])
        gate = None if gates is None else gates[clips, heads, rows, None]
        mask = None if keys is None else keys[clips, None, None, :]

        def run(query: Tensor, key: Tensor, value: Tensor, gate: Tensor | None) -> Tensor:
            return function(query, key, value, gate, bias.block(clips, heads, rows), mask, dropout)

        again = learns and n > LONG  # the backward pass makes the scores anew
        return checkpoint(run, *inputs, gate, use_reentrant=False) if again else run(*inputs, gate)

    clips, heads, rows = _slices(query)
    return _join([_join([_join([part(c, h, r) for r in rows], 2) for h in heads], 1) for c in clips], 0)


def fused(
    query: Tensor, key: Tensor, value: Tensor, gate: Tensor | None, bias: Tensor, keys: Tensor | None, dropout: float
) -> Tensor:
    """Attend with PyTorch's kernels: bias (1 or B, H, m, n), gate (B, H, m, 1), keys (B, 1, 1, n)."""
    mask = bias.expand(query.shape[0], -1, -1, -1) if gate is None else gate * bias
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
    weights = scores.softmax(dim=-1)
    if dropout:
        dropped, scale = draw_dropped(weights, dropout)
        weights, value = weights.masked_fill(dropped, 0.0), value * scale
    return weights.to(value.dtype) @ value


def draw_dropped(weights: Tensor, probability: float) -> tuple[Tensor, float]:
    """Return a bool tensor of the shape of weights, True where one is dropped, and the factor that makes up for it.

    Four weights share a draw of the global generator, 15 bits each: a third of the time of a draw for every weight.
    """
    draws = torch.empty((weights.numel() + 3) // 4, dtype=torch.int64, device=weights.device).random_()
    numbers = draws.view(torch.int16)[: weights.numel()].view(weights.shape) & (STEPS - 1)
    threshold = min(round(probability * STEPS), STEPS - 1)
    return numbers < threshold, STEPS / (STEPS - threshold)


def flex(query: Tensor, key: Tensor, value: Tensor, gates: Tensor | None, bias: Bias, keys: Tensor | None) -> Tensor:
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


def _slices(query: Tensor) -> list[list[slice]]:
    """Return slices over clips, heads and queries; a block of one of each has a limited number of scores."""
    B, H, n, _ = query.shape
    limit = BLOCK.get(query.device.type, BLOCK_ELSEWHERE)
    clips = max(1, limit // (H * n * n))
    heads = min(H, max(1, limit // (n * min(n, FEWEST_ROWS))))
    rows = max(1, limit // (heads * n))
    steps = ((B, clips), (H, heads), (n, rows))
    return [[slice(start, min(size, start + step)) for start in range(0, size, step)] for size, step in steps]


def _join(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)
