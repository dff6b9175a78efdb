"""The quantiser: equal to the authors' step, its gradient, what it may change when, and its sums over ranks."""

import socket
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from speechssl.errors import UserError
from speechssl.nn.quantizer import DeadCodes, VectorQuantizer

GOLDEN = Path(__file__).parents[1] / "fixtures" / "beats_tokenizer.pt"


def made(V: int = 12, d: int = 6, decay: float = 0.9) -> VectorQuantizer:
    quantizer = VectorQuantizer(V, d, decay)
    quantizer.initialise(torch.randn(V, d, generator=torch.Generator().manual_seed(5)), torch.zeros(V))
    return quantizer


def vectors(B: int = 2, N: int = 10, d: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return (B, N, d) vectors, and (B, N) bool with padding at the end of the second row."""
    x = torch.randn(B, N, d, generator=torch.Generator().manual_seed(seed))
    valid = torch.ones(B, N, dtype=torch.bool)
    valid[1, N // 2 :] = False
    return x, valid


def state(quantizer: VectorQuantizer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in quantizer.named_buffers()}


def test_a_training_step_equals_the_original() -> None:
    golden = torch.load(GOLDEN, weights_only=True)["quantizer_ema"]
    quantizer = VectorQuantizer(64, 16, golden["decay"])
    quantizer.initialise(golden["codebook_before"], golden["cluster_size_before"])
    z = golden["z"].clone().requires_grad_()
    found = quantizer(z, torch.ones(z.shape[:2], dtype=torch.bool))
    (found.vectors * golden["upstream_grad"]).sum().add(golden["beta"] * found.commitment).backward()
    quantizer.update()
    close = {"atol": 1e-6, "rtol": 0}
    assert torch.equal(found.codes.flatten(), golden["indices"])
    torch.testing.assert_close(found.vectors, golden["z_q"], **close)
    torch.testing.assert_close(golden["beta"] * found.commitment, golden["loss"], **close)
    torch.testing.assert_close(z.grad, golden["grad_z"], **close)
    torch.testing.assert_close(quantizer.codebook, golden["codebook_after"], **close)
    torch.testing.assert_close(quantizer.cluster_size, golden["cluster_size_after"], **close)


def test_a_training_step_equals_loops_with_padding() -> None:
    quantizer, (x, valid) = made(), vectors()
    before = quantizer.codebook.clone()
    found = quantizer(x, valid)
    quantizer.update()
    unit = [v / v.norm() for v in x[valid]]
    codes = [int(torch.stack([(v - c).norm() for c in before]).argmin()) for v in unit]
    assert found.codes[valid].tolist() == codes
    commitment = sum(float((v - before[k]).square().mean()) for v, k in zip(unit, codes, strict=True)) / len(unit)
    assert float(found.commitment) == pytest.approx(commitment, rel=1e-5)
    for k in range(12):
        mine = [v for v, code in zip(unit, codes, strict=True) if code == k]
        assert float(quantizer.cluster_size[k]) == pytest.approx(0.1 * len(mine))
        if not mine:
            assert torch.equal(quantizer.codebook[k], before[k])
            continue
        mean = torch.stack(mine).mean(0)
        moved = 0.9 * before[k] + 0.1 * mean / mean.norm()
        torch.testing.assert_close(quantizer.codebook[k], moved / moved.norm())
    assert 0 < len(set(codes)) < 12
    torch.testing.assert_close(quantizer.codebook.norm(dim=1), torch.ones(12))


def test_gradient_goes_through_the_unit_sphere_and_never_to_the_codebook() -> None:
    quantizer, (x, valid) = made(), vectors()
    x.requires_grad_()
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(9))
    found = quantizer(x, valid)
    ((found.vectors * weight).sum() + 0.5 * found.commitment).backward()
    unit = F.normalize(x.detach(), dim=-1)
    chosen = quantizer.codebook[found.codes]
    at_unit = weight + 0.5 * 2 * (unit - chosen) * valid[..., None] / (int(valid.sum()) * 6)
    tangent = at_unit - (at_unit * unit).sum(-1, keepdim=True) * unit
    torch.testing.assert_close(x.grad, tangent / x.detach().norm(dim=-1, keepdim=True))
    assert not list(quantizer.parameters())
    assert not any(buffer.requires_grad for buffer in quantizer.buffers())


def test_evaluation_changes_nothing() -> None:
    quantizer, (x, valid) = made().eval(), vectors()
    before = state(quantizer)
    quantizer(x, valid)
    quantizer.lookup(x)
    quantizer.train()
    quantizer.lookup(x)
    for name, tensor in state(quantizer).items():
        assert torch.equal(tensor, before[name]), name


def test_padding_counts_nowhere() -> None:
    results = []
    for fill in (0.0, 100.0):
        quantizer, (x, valid) = made(), vectors()
        found = quantizer(x.masked_fill(~valid[..., None], fill), valid)
        quantizer.update()
        results.append([found.commitment, *state(quantizer).values()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_micro_batches_equal_one_batch() -> None:
    whole, parts, (x, valid) = made(), made(), vectors()
    whole(x, valid)
    for row in range(2):
        parts(x[row : row + 1], valid[row : row + 1])
    assert torch.equal(whole.update(), parts.update())
    torch.testing.assert_close(whole.codebook, parts.codebook, atol=1e-6, rtol=0)
    assert not parts.counts.any()
    assert not parts.sums.any()


def _rank(rank: int, port: int, folder: str) -> None:
    """Quantise this rank's row, update over both ranks, replace idle codes, and save."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    quantizer, (x, valid) = made(), vectors()
    found = quantizer(x[rank : rank + 1], valid[rank : rank + 1])
    dead = DeadCodes(12, 6, patience=1)
    if rank == 1:  # rank 0 had nothing to read
        dead.offer(found.unit, valid[1:], torch.tensor([3]), stream=0)
    counts = quantizer.update()
    updated = quantizer.codebook.clone()
    dead.replace(quantizer, counts)
    torch.save([updated, quantizer.codebook, counts, dead.idle], Path(folder) / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_with_half_batches_equal_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # where the new processes find this file
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    alone, (x, valid) = made(), vectors()
    alone(x, valid)
    assert torch.equal(alone.update(), first[2])
    torch.testing.assert_close(alone.codebook, first[0], atol=1e-6, rtol=0)
    unused = first[2] == 0
    assert bool((first[1][~unused] == first[0][~unused]).all())
    assert bool((first[1][unused] != first[0][unused]).any(dim=1).all())


def test_dead_codes_get_a_valid_vector_of_the_batch_after_the_patience() -> None:
    quantizer, dead, (x, valid) = made(), DeadCodes(12, 6, patience=3), vectors()
    unit = F.normalize(x, dim=-1)
    for step in range(1, 4):
        before = quantizer.codebook.clone()
        found = quantizer(x, valid)
        dead.offer(found.unit, valid, torch.tensor([step, 77]), stream=0)
        counts = quantizer.update()
        moved = quantizer.codebook.clone()
        dead.replace(quantizer, counts)
        if step < 3:
            assert torch.equal(quantizer.codebook, moved)
    unused = counts == 0
    assert bool(unused.any())
    assert torch.equal(moved[unused], before[unused])
    for code in quantizer.codebook[unused]:
        assert bool((unit[valid] - code).abs().sum(1).min() < 1e-6)
        assert bool((unit[~valid] - code).abs().sum(1).min() > 1e-3)
    assert torch.equal(quantizer.codebook[~unused], moved[~unused])
    assert not dead.idle.any()


def test_offers_depend_on_the_seed_of_the_first_utterance() -> None:
    _, (x, valid) = made(), vectors()
    offers = []
    for seeds in ([1, 2], [1, 9], [4, 2]):
        dead = DeadCodes(12, 6, patience=1)
        dead.offer(x, valid, torch.tensor(seeds), stream=0)
        offers.append(dead.offers)
    assert torch.equal(offers[0], offers[1])
    assert not torch.equal(offers[0], offers[2])


def test_without_valid_vectors_nothing_is_replaced() -> None:
    quantizer, dead, (x, valid) = made(), DeadCodes(12, 6, patience=1), vectors()
    before = quantizer.codebook.clone()
    quantizer(x, valid & False)
    dead.offer(x, valid & False, torch.tensor([1, 2]), stream=0)
    dead.replace(quantizer, quantizer.update())
    assert torch.equal(quantizer.codebook, before)
    assert dead.idle.tolist() == [1] * 12


def test_autocast_changes_nothing() -> None:
    quantizer, (x, valid) = made(), vectors()
    expected = quantizer(x, valid)
    with torch.autocast("cpu", torch.bfloat16):
        found = quantizer(x, valid)
    assert found.vectors.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_share_of_dead_codes() -> None:
    quantizer = made(4)
    quantizer.cluster_size.copy_(torch.tensor([10.0, 9.0, 0.001, 0.0]))
    assert float(quantizer.dead()) == 0.5


def test_an_empty_codebook_is_refused_until_one_is_loaded() -> None:
    quantizer, (x, valid) = VectorQuantizer(12, 6), vectors()
    for use in (lambda: quantizer(x, valid), lambda: quantizer.eval().lookup(x)):
        with pytest.raises(UserError, match="not been initialised"):
            use()
    quantizer.load_state_dict(made().state_dict())
    assert quantizer.ready
    assert torch.equal(quantizer.lookup(x), made().lookup(x))
    assert set(quantizer.state_dict()) == {"codebook", "cluster_size", "initialised"}


def test_wrong_settings() -> None:
    for wrong in ((1, 6, 0.9), (12, 0, 0.9), (12, 6, 1.0)):
        with pytest.raises(UserError, match="a codebook needs"):
            VectorQuantizer(*wrong)
    with pytest.raises(UserError, match="dead_code_reset_steps"):
        DeadCodes(12, 6, -1)
