"""BEATs forward: blocked attention with a bias looked up once, against the arrangement of the published code.

The other side does what that code does, with the same weights: time-first tensors, three projections, a bias table
expanded for every pair of patches and repeated for every clip, and in each layer the gated bias, the raw scores, the
scores shifted by their maximum (divided by 32 before, multiplied after), their sum and the softmax as tensors of their
own. Both sides see the same spectrograms; before anything is timed, their outputs are compared in float32.

Run: python benchmarks/beats_forward.py [--size base --clips 4 --seconds 10 --precision fp32|bf16 --train 0|1
     --device cpu|cuda --threads 1 --json OUT]
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from side_by_side import arguments, interleave, report
from torch import Tensor

from speechssl import configs, registry
from speechssl.upstream.beats import Beats
from speechssl.upstream.beats.attention import GatedAttention
from speechssl.upstream.beats.encoder import Stack
from speechssl.upstream.beats.layers import Layer
from speechssl.upstream.beats.relative import RelativeBias, bucket

TOLERANCE = 1e-4  # absolute difference of the outputs in float32
GUARD = 32.0  # what scores are divided by before their maximum is subtracted


class MaterialisedBias:
    """A forward as the published code arranges it, with the weights of `upstream`."""

    def __init__(self, upstream: Beats):
        self.upstream = upstream

    def encode(self, cells: Tensor) -> Tensor:
        """Return the last hidden state (B, N, D) of spectrograms (B, T, 128) without padding."""
        upstream, encoder = self.upstream, self.upstream.encoder
        kernel = upstream.embedding.weight.unflatten(1, (1, 16, 16))
        tokens = F.conv2d(cells[:, None], kernel, stride=16).flatten(2).transpose(1, 2)
        tokens = upstream.projection(upstream.embedding_norm(tokens))
        x = encoder.norm(tokens + encoder.positions(tokens))
        return self.stack(encoder.stack, F.dropout(x, encoder.dropout, upstream.training))

    def stack(self, stack: Stack, x: Tensor) -> Tensor:
        """Return the last state (B, N, D) of (B, N, D)."""
        B, N = x.shape[:2]
        bias = self.bias(stack.bias, N).repeat(B, 1, 1, 1).flatten(0, 1)  # (B * H, N, N)
        x = x.transpose(0, 1)
        for layer in stack.layers:
            x = self.layer(layer, x, bias)
        return x.transpose(0, 1)

    def bias(self, table: RelativeBias, size: int) -> Tensor:
        """Return (1, H, N, N)."""
        place = torch.arange(size)
        index = bucket(place[None, :] - place[:, None], len(table.table), table.max_distance)
        return F.embedding(index.to(table.table.device), table.table).permute(2, 0, 1)[None]

    def layer(self, layer: Layer, x: Tensor, bias: Tensor) -> Tensor:
        drop, scale = layer.dropout, layer.residual_scale
        x = layer.attention_norm(x * scale + F.dropout(self.attend(layer.attention, x, bias), drop, layer.training))
        hidden = F.gelu(layer.expand(x).float()).type_as(x)
        return layer.output_norm(x * scale + F.dropout(layer.contract(hidden), drop, layer.training))

    def attend(self, attention: GatedAttention, x: Tensor, bias: Tensor) -> Tensor:
        """Return what attention adds to (N, B, D)."""
        N, B, D = x.shape
        H, d = attention.num_heads, D // attention.num_heads
        weights, offsets = attention.qkv.weight.chunk(3), attention.qkv.bias.chunk(3)
        query, key, value = (F.linear(x, *pair) for pair in zip(weights, offsets, strict=True))
        query = query * (d**-0.5 / GUARD)
        query, key, value = (part.contiguous().view(N, B * H, d).transpose(0, 1) for part in (query, key, value))
        scores = torch.bmm(query, key.transpose(1, 2))
        scores = (scores - scores.max(dim=-1, keepdim=True)[0]) * GUARD
        plain = query.view(B, H, N, d) * (d**0.5 * GUARD)
        update, reset = attention.gate(plain).view(B, H, N, 2, 4).sum(-1).sigmoid().chunk(2, dim=-1)
        gate = update * (reset * attention.gate_scale.view(1, H, 1, 1) - 1.0) + 2.0
        gated = gate.view(B * H, N, 1) * bias
        probabilities = F.softmax((scores + gated).float(), dim=-1).type_as(scores)
        probabilities = F.dropout(probabilities, attention.dropout, attention.training)
        mixed = torch.bmm(probabilities, value).transpose(0, 1).reshape(N, B, D)
        return attention.output(mixed)


def ours(upstream: Beats, cells: Tensor) -> Tensor:
    return upstream.token_states(cells, torch.full((len(cells),), cells.shape[1], device=cells.device))[0][-1]


@torch.no_grad()
def compare(theirs: MaterialisedBias, upstream: Beats, cells: Tensor) -> float:
    """Return the largest difference of the outputs in float32; end the program if it is too large."""
    difference = float((theirs.encode(cells) - ours(upstream, cells)).abs().max())
    if not difference <= TOLERANCE:
        raise SystemExit(f"the outputs differ by {difference:.1e}: nothing was timed")
    return difference


def main() -> None:
    options = {"size": "base", "precision": "fp32", "train": 0, "device": "cpu"}
    given = arguments(__doc__.splitlines()[0], clips=4, rounds=7, **options)
    torch.manual_seed(0)
    upstream = registry.build_upstream("beats", configs.load("upstream", f"beats/{given.size}")[1]).eval()
    with torch.no_grad():  # an untrained table and gate would hide errors
        upstream.encoder.stack.bias.table.normal_(std=0.7)
        for layer in upstream.encoder.stack.layers:
            layer.attention.gate_scale.uniform_(0.5, 2.0)
    upstream = upstream.to(given.device)
    theirs = MaterialisedBias(upstream)
    cells = (0.5 * torch.randn(given.clips, 1 + (int(16000 * given.seconds) - 400) // 160, 128)).to(given.device)
    difference = compare(theirs, upstream, cells)
    upstream.train(bool(given.train))
    precision = torch.bfloat16 if given.precision == "bf16" else None

    def timed(forward: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.set_grad_enabled(bool(given.train)):
                with torch.autocast(given.device, precision, enabled=precision is not None):
                    out = forward(cells)
                if given.train:
                    out.float().square().mean().backward()
                    upstream.zero_grad()
            if given.device != "cpu":
                torch.cuda.synchronize()

        return run

    sides = {"materialised, eager": timed(theirs.encode), "speechssl": timed(lambda cells: ours(upstream, cells))}
    seconds = interleave(sides, given.rounds)
    what = "forward and backward" if given.train else "forward"
    title = f"BEATs {given.size} {what}, {given.clips} x {given.seconds:g} s, {given.precision} on {given.device}"
    report(title, seconds, f"largest difference of the outputs {difference:.1e} (float32)", given)


if __name__ == "__main__":
    main()
