"""BEATs' encoder against the formulas written out slowly."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.upstream.beats import Beats
from speechssl.upstream.beats.attention import GatedAttention
from speechssl.upstream.beats.encoder import Encoder, Stack
from speechssl.upstream.beats.layers import Layer
from speechssl.upstream.beats.relative import RelativeBias

CLOSE = {"atol": 2e-5, "rtol": 1e-5}
ODD = {  # sizes and variants that no golden file has
    "pre_norm, glu": {
        "hidden_size": 30,
        "num_layers": 3,
        "num_heads": 3,
        "intermediate_size": 50,
        "embedding_size": 30,
        "conv_positions": 7,
        "conv_position_groups": 5,
        "num_buckets": 32,
        "max_distance": 39,
        "deep_norm": False,
        "pre_norm": True,
        "activation": "glu",
    },
    "not gated, relu": {
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 2,
        "embedding_size": 16,
        "conv_positions": 6,
        "conv_position_groups": 3,
        "num_buckets": 16,
        "max_distance": 21,
        "deep_norm": False,
        "gated": False,
        "activation": "relu",
    },
    "deep_norm, tanh": {
        "hidden_size": 40,
        "num_layers": 4,
        "num_heads": 5,
        "intermediate_size": 33,
        "embedding_size": 64,
        "conv_positions": 10,
        "conv_position_groups": 2,
        "num_buckets": 64,
        "max_distance": 71,
        "activation": "tanh",
    },
}


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    """Return the module in eval mode with every parameter moved, so that an unused or swapped one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


def odd(name: str) -> Beats:
    torch.manual_seed(1)
    return perturbed(Beats(**ODD[name]))


# The formulas, one clip, query by query.


def slow_bucket(distance: int, num_buckets: int, max_distance: int) -> int:
    half, exact, far = num_buckets // 2, num_buckets // 4, abs(distance)
    if far >= exact:
        far = min(half - 1, exact + int(math.log(far / exact) / math.log(max_distance / exact) * (half - exact)))
    return far + (half if distance > 0 else 0)


def slow_attention(attention: GatedAttention, bias: RelativeBias, x: Tensor, keys: list[int], places: list) -> Tensor:
    """Return (n, D) of (n, D)."""
    D, H = x.shape[1], attention.num_heads
    d = D // H
    names = dict(zip("qkv", zip(attention.qkv.weight.split(D), attention.qkv.bias.split(D), strict=True), strict=True))
    q, k, v = ((x @ weight.T + offset).view(-1, H, d) for weight, offset in names.values())
    out = torch.zeros(len(x), D)
    for h in range(H):
        for i in range(len(x)):
            gate = 1.0
            if attention.gated:
                u = attention.gate.weight @ q[i, h] + attention.gate.bias
                update, reset = torch.sigmoid(u[:4].sum()), torch.sigmoid(u[4:].sum())
                gate = update * (reset * attention.gate_scale[h] - 1) + 2
            index = [slow_bucket(places[j] - places[i], len(bias.table), bias.max_distance) for j in keys]
            scores = torch.stack([q[i, h] @ k[j, h] / math.sqrt(d) for j in keys]) + gate * bias.table[index, h]
            weights = scores.exp() / scores.exp().sum()
            out[i, h * d : (h + 1) * d] = sum(w * v[j, h] for w, j in zip(weights, keys, strict=True))
    return out @ attention.output.weight.T + attention.output.bias


def slow_layer(layer: Layer, bias: RelativeBias, x: Tensor, keys: list[int], places: list) -> Tensor:
    def feed_forward(x: Tensor) -> Tensor:
        hidden = layer.expand(x)
        if layer.activation == "glu":
            first, second = hidden[:, : hidden.shape[1] // 2], hidden[:, hidden.shape[1] // 2 :]
            return layer.contract(first * second * torch.sigmoid(second))
        functions: dict[str, Callable] = {"relu": torch.relu, "tanh": torch.tanh}
        return layer.contract(functions[layer.activation](hidden))

    if layer.pre_norm:
        x = x + slow_attention(layer.attention, bias, layer.attention_norm(x), keys, places)
        return x + feed_forward(layer.output_norm(x))
    x = layer.attention_norm(x * layer.residual_scale + slow_attention(layer.attention, bias, x, keys, places))
    return layer.output_norm(x * layer.residual_scale + feed_forward(x))


def slow_positions(encoder: Encoder, grid: Tensor) -> Tensor:
    """Return (N, D) of (N, D), tap by tap."""
    conv = encoder.positions
    D, inputs, taps = conv.direction.shape
    out = conv.bias.repeat(len(grid), 1)
    for tap in range(taps):
        weight = conv.direction[:, :, tap]
        weight = weight / weight.square().sum().sqrt() * conv.magnitude[0, 0, tap]
        for place in range(len(grid)):
            source = place + tap - taps // 2
            if 0 <= source < len(grid):
                groups = grid[source].view(conv.groups, inputs).repeat_interleave(D // conv.groups, dim=0)
                out[place] += (weight * groups).sum(dim=1)
    return 0.5 * out * (1 + torch.erf(out / math.sqrt(2)))


def slow_encoder(encoder: Encoder, tokens: Tensor, valid: int, places: list[int]) -> list[Tensor]:
    """Return the states (n, D) of one clip's tokens (n, D); from `valid` on they are padding."""
    tokens = torch.cat([tokens[:valid], torch.zeros_like(tokens[valid:])])
    grid = torch.zeros(max(places) + 1, tokens.shape[1])
    grid[places] = tokens
    x = tokens + slow_positions(encoder, grid)[places]
    x = x if encoder.pre_norm else encoder.norm(x)
    states = [x]
    for layer in encoder.stack.layers:
        x = slow_layer(layer, encoder.stack.bias, x, list(range(valid)), places)
        states.append(x)
    if encoder.pre_norm:
        states[-1] = encoder.norm(x)
    return states


@pytest.mark.parametrize("name", ODD)
@torch.no_grad()
def test_encoder_equals_the_formulas(name: str) -> None:
    upstream = odd(name)
    cells, frames = 0.5 * torch.randn(2, 16 * 5 + 3, 128), torch.tensor([83, 50])
    states, valid = upstream.token_states(cells, frames)
    assert valid.sum(1).tolist() == [40, 24]
    tokens = upstream.embed(upstream.patches(cells))
    for clip, count in enumerate((40, 24)):
        slow = slow_encoder(upstream.encoder, tokens[clip], count, list(range(40)))
        for state, expected in zip(states, slow, strict=True):
            torch.testing.assert_close(state[clip], expected, **CLOSE)


@pytest.mark.parametrize("name", ODD)
@torch.no_grad()
def test_kept_tokens_keep_their_places(name: str) -> None:
    encoder = odd(name).encoder
    places = torch.tensor([[0, 3, 4, 11, 30, 37], [2, 5, 19, 20, 0, 39]])  # the second clip has four tokens
    keys = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    tokens = torch.randn(2, 6, encoder.norm.normalized_shape[0])
    states = encoder(tokens, keys, places, 40)
    for clip, count in enumerate((6, 4)):
        slow = slow_encoder(encoder, tokens[clip, :count], count, places[clip, :count].tolist())
        for state, expected in zip(states, slow, strict=True):
            torch.testing.assert_close(state[clip, :count], expected, **CLOSE)
    found = encoder(tokens, keys, places)[-1]  # the size that is looked up makes no difference
    torch.testing.assert_close(found[keys], states[-1][keys], atol=1e-6, rtol=0)


@torch.no_grad()
def test_all_places_equal_none() -> None:
    encoder = odd("deep_norm, tanh").encoder
    tokens = torch.randn(2, 24, 40)
    places = torch.arange(24).expand(2, -1)
    torch.testing.assert_close(encoder(tokens, None, places, 24)[-1], encoder(tokens)[-1], atol=1e-6, rtol=0)


@torch.no_grad()
def test_gate_is_folded_exactly() -> None:
    attention = perturbed(GatedAttention(24, 3))
    query = torch.randn(2, 3, 7, 8)
    update, reset = attention.gate(query).view(2, 3, 7, 2, 4).sum(-1).sigmoid().unbind(-1)
    expected = update * (reset * attention.gate_scale[:, None] - 1) + 2
    torch.testing.assert_close(attention.gates(query), expected)
    assert float(GatedAttention(24, 3).gates(torch.zeros(1, 3, 1, 8))[0, 0, 0]) == pytest.approx(1.75, abs=0.15)


@torch.no_grad()
def test_a_clip_without_a_patch_is_finite_and_disturbs_nobody() -> None:
    encoder = odd("deep_norm, tanh").encoder
    tokens = torch.randn(2, 16, 40)
    keys = torch.tensor([[True] * 16, [False] * 16])
    found = encoder(tokens, keys)[-1]
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found[:1], encoder(tokens[:1])[-1], atol=1e-5, rtol=0)


def test_stack_alone_has_the_constants_of_its_depth() -> None:
    stack = Stack(16, 3, 2)
    assert stack.layers[0].residual_scale == pytest.approx(1.5651, abs=1e-4)
    assert len(stack(torch.randn(1, 5, 16))) == 4
    assert Stack(16, 3, 2, deep_norm=False).layers[0].residual_scale == 1.0
    with pytest.raises(UserError, match="deep_norm"):
        Stack(16, 3, 2, pre_norm=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.no_grad()
def test_a_gpu_gives_the_values_of_a_cpu() -> None:
    upstream = odd("deep_norm, tanh")
    cells, frames = 0.5 * torch.randn(2, 16 * 300, 128), torch.tensor([4800, 3000])  # 2400 tokens: flex
    expected = upstream.token_states(cells, frames)[0][-1]
    found = upstream.cuda().token_states(cells.cuda(), frames.cuda())[0][-1].cpu()
    torch.testing.assert_close(found[0], expected[0], atol=1e-3, rtol=0)
    torch.testing.assert_close(found[1, :1500], expected[1, :1500], atol=1e-3, rtol=0)


def test_table_is_looked_up_by_distance() -> None:
    bias = RelativeBias(2, 8, 5)
    nn.init.normal_(bias.table)
    whole = bias(9).block(slice(None), slice(None), slice(0, 9))
    for i in range(9):
        for j in range(9):
            assert torch.equal(whole[0, :, i, j], bias.table[slow_bucket(j - i, 8, 5)])
    some = bias(9, torch.tensor([[1, 4, 8]])).block(slice(None), slice(None), slice(1, 3))
    assert torch.equal(some[0], whole[0][:, [4, 8]][:, :, [1, 4, 8]])
