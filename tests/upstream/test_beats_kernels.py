"""Every way to compute BEATs' attention against one that is written out, and what blocks promise."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from speechssl.upstream.beats import Beats, kernels
from speechssl.upstream.beats.relative import Bias


def problem(n: int = 37, gated: bool = True, keyed: bool = True, placed: bool = False, B: int = 3) -> tuple:
    """Return the arguments of `attend` without dropout, leaves that want gradients."""
    generator = torch.Generator().manual_seed(n)
    H, d, N = 4, 8, n + 20 if placed else n
    query, key, value = (torch.randn(B, H, n, d, generator=generator).requires_grad_() for _ in range(3))
    gates = (1 + torch.rand(B, H, n, generator=generator)).requires_grad_() if gated else None
    offsets = torch.randn(H, 2 * N - 1, generator=generator).requires_grad_()
    places = torch.rand(B, N, generator=generator).argsort(1)[:, :n].sort(1).values if placed else None
    keys = torch.arange(n) < torch.tensor([n, n // 2, 1])[:B, None] if keyed else None
    return query, key, value, gates, Bias(offsets, places), keys


def plain(query: Tensor, key: Tensor, value: Tensor, gates: Tensor | None, bias: Bias, keys: Tensor | None) -> Tensor:
    """Attend with everything materialised."""
    B, _, n, d = query.shape
    places = torch.arange(n).expand(B, -1) if bias.places is None else bias.places
    index = places[:, None, :] - places[:, :, None] + bias.size - 1
    added = bias.offsets[:, index].transpose(0, 1)
    scores = query @ key.transpose(2, 3) / d**0.5 + (added if gates is None else gates[..., None] * added)
    if keys is not None:
        scores = torch.where(keys[:, None, None], scores, torch.tensor(-torch.inf))
    return scores.softmax(-1) @ value


def gradients(function: Callable[..., Tensor], arguments: tuple, *more: float) -> tuple[Tensor, list[Tensor]]:
    """Return the result and its gradients to query, key, value, gates and bias."""
    leaves = [a for a in (*arguments[:4], arguments[4].offsets) if a is not None]
    out = function(*arguments[:4], Bias(arguments[4].offsets, arguments[4].places), arguments[5], *more)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out).to(out)
    return out.detach(), list(torch.autograd.grad((out * weights).sum(), leaves))


CASES = [
    {},
    {"gated": False},
    {"keyed": False},
    {"placed": True},
    {"placed": True, "gated": False, "keyed": False},
]


def written_out(*arguments) -> Tensor:
    return whole(kernels.product_softmax_product, *arguments)


def with_sdpa(*arguments) -> Tensor:
    return whole(kernels.fused, *arguments)


def whole(function: Callable[..., Tensor], query: Tensor, key: Tensor, value: Tensor, gates, bias, keys) -> Tensor:
    gate, mask = (None if gates is None else gates[..., None]), (None if keys is None else keys[:, None, None])
    table = bias.block(slice(None), slice(None), slice(0, query.shape[2]))
    return function(query, key, value, gate, table, mask, 0.0)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("way", [written_out, with_sdpa, kernels.flex])
def test_every_way_has_the_same_values_and_gradients(way: Callable[..., Tensor], case: dict) -> None:
    arguments = problem(**case)
    expected, slopes = gradients(plain, arguments)
    fixed = [a.detach() if isinstance(a, Tensor) else a for a in arguments]
    fixed[4] = Bias(fixed[4].offsets.detach(), fixed[4].places)
    torch.testing.assert_close(way(*fixed), expected, atol=1e-5, rtol=1e-5)
    if way is kernels.flex:  # which PyTorch does not differentiate on a CPU
        return
    for found, slope in zip(gradients(way, arguments)[1], slopes, strict=True):
        torch.testing.assert_close(found, slope, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("limit", [10**9, 4 * 37 * 37 * 2, 4 * 37 * 37, 2 * 37 * 37, 37 * 5, 1])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, case: dict, limit: int, long: bool) -> None:
    """Whole batches, two clips, one clip, two heads, five queries or one at a time; scores kept or made again."""
    monkeypatch.setitem(kernels.BLOCK, "cpu", limit)
    monkeypatch.setattr(kernels, "LONG", 36 if long else 37)
    monkeypatch.setattr("speechssl.upstream.beats.relative.KEPT", 0 if limit < 4 * 37 * 37 else 10**9)
    arguments = problem(**case)
    expected, slopes = gradients(plain, arguments)
    with torch.no_grad():
        torch.testing.assert_close(kernels.attend(*arguments, 0.0), expected, atol=1e-5, rtol=1e-5)
    out, found = gradients(kernels.attend, arguments, 0.0)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    for a, b in zip(found, slopes, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("limit", [200 * 7, 2 * 200 * 128, 4 * 200 * 200])
def test_no_block_has_more_scores_than_allowed(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setitem(kernels.BLOCK, "cpu", limit)
    monkeypatch.setattr(kernels, "LONG", 100)
    seen = []
    ways = {name: getattr(kernels, name) for name in ("fused", "product_softmax_product")}

    def spy(name: str) -> Callable[..., Tensor]:
        def way(query: Tensor, key: Tensor, *others) -> Tensor:
            seen.append(query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2])
            return ways[name](query, key, *others)

        return way

    for name in ways:
        monkeypatch.setattr(kernels, name, spy(name))
    arguments = problem(200)
    with torch.no_grad():
        kernels.attend(*arguments, 0.0)
    gradients(kernels.attend, arguments, 0.0)
    assert max(seen) <= limit
    assert sum(seen) == 3 * 3 * 4 * 200 * 200  # three clips: without gradients, forward, and again for the backward


def test_long_training_keeps_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels.BLOCK, "cpu", 4 * 400 * 40)

    def kept(long: int) -> int:
        monkeypatch.setattr(kernels, "LONG", long)
        sizes = []
        arguments = problem(400, B=1, keyed=False)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            kernels.attend(*arguments, 0.0)
        return max(sizes)

    assert kept(long=100) < 4 * 400 * 40 <= kept(long=400)


def test_attention_dropout_drops_its_share() -> None:
    query, key, value, gates, bias, _ = problem(64, keyed=False)
    value = torch.ones_like(value)
    torch.manual_seed(0)
    out = kernels.attend(query, key, value, gates, bias, None, 0.5)
    assert float(out.detach().mean()) == pytest.approx(1.0, abs=0.05)
    assert float(out.detach().std()) > 0.1
    torch.manual_seed(0)
    assert torch.equal(kernels.attend(query, key, value, gates, bias, None, 0.5), out)


@pytest.mark.parametrize("probability", [0.1, 0.5, 1e-9])
def test_dropped_weights_are_independent_draws(probability: float) -> None:
    torch.manual_seed(0)
    dropped, scale = kernels.draw_dropped(torch.zeros(3, 5, 101, 103), probability)
    share = dropped.double().mean()
    assert float(share) == pytest.approx(probability, abs=0.004)
    assert scale == pytest.approx(1 / (1 - probability), abs=1e-4)
    flat = dropped.flatten()[: dropped.numel() // 4 * 4].view(-1, 4).double()  # four share a draw
    if probability > 0.05:
        torch.testing.assert_close(flat.mean(0), torch.full((4,), probability).double(), atol=0.006, rtol=0)
        assert float((torch.corrcoef(flat.T) - torch.eye(4)).abs().max()) < 0.02


@torch.no_grad()
def test_bfloat16_is_close_to_float32() -> None:
    torch.manual_seed(0)
    upstream = Beats(48, 2, 3, embedding_size=32, conv_positions=16, conv_position_groups=4).eval()
    cells, frames = 0.5 * torch.randn(2, 200, 128), torch.tensor([200, 120])
    expected = upstream.token_states(cells, frames)[0][-1]
    with torch.autocast("cpu", torch.bfloat16):
        found = upstream.token_states(cells, frames)[0][-1]
    assert float((found - expected).norm() / expected.norm()) < 0.02


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_compiled_flex_on_a_gpu(case: dict) -> None:
    query, key, value, gates, bias, keys = problem(150, **case)

    def moved(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().cuda().requires_grad_(tensor.is_floating_point())

    places = None if bias.places is None else bias.places.cuda()
    there = (*map(moved, (query, key, value, gates)), Bias(moved(bias.offsets), places), moved(keys))
    expected, slopes = gradients(plain, (query, key, value, gates, bias, keys))
    out, found = gradients(kernels.compiled_flex(), there)
    torch.testing.assert_close(out.cpu(), expected, atol=1e-3, rtol=1e-3)
    for a, b in zip(found, slopes, strict=True):
        torch.testing.assert_close(a.cpu(), b, atol=1e-2, rtol=1e-2)
