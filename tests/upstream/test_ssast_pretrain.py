"""SSAST's objective: equal to the authors' code on the golden tensors, and what the losses may depend on."""

import math
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from speechssl import configs, registry, testing
from speechssl.errors import UserError
from speechssl.interfaces import Batch
from speechssl.nn.patches import from_patches, to_patches
from speechssl.upstream.ssast import Ssast, SsastPretraining, convert, model
from speechssl.upstream.ssast.masking import Hidden
from speechssl.upstream.ssast.pretrain import MASK, Grid, targets


def debug_task(name: str = "patch_debug", **options) -> SsastPretraining:
    torch.manual_seed(0)
    upstream = registry.build_upstream("ssast", configs.load("upstream", f"ssast/{name}")[1])
    return SsastPretraining(upstream, **options)


def golden_task(golden: dict, tmp_path: Path, **options) -> tuple[SsastPretraining, Grid, Hidden]:
    torch.save(golden["state_dict"], tmp_path / "pretrained.pth")
    published = convert.read(tmp_path / "pretrained.pth")
    upstream = registry.build_upstream("ssast", published.config | {"num_heads": 3})
    upstream.load_state_dict(published.upstream_state)
    task = SsastPretraining(upstream, **options)
    task.load_state_dict(published.task_state, strict=False)
    cells, index = golden["input"], golden["mask_index"]
    patches = to_patches(cells, *upstream.patch)
    B, N = len(cells), patches.shape[1] * patches.shape[2]
    mask = torch.zeros(B, N, dtype=torch.bool).scatter_(1, index, True)
    start = torch.zeros(B, dtype=torch.long)
    grid = Grid(cells, patches, torch.full((B,), patches.shape[2]), start, None)
    return task, grid, Hidden(index, torch.ones_like(index, dtype=torch.bool), mask)


def test_losses_equal_the_original(ssast_golden: dict, tmp_path: Path) -> None:
    task, grid, hidden = golden_task(ssast_golden, tmp_path)
    outputs = task.outputs(grid, hidden)
    expected = ssast_golden["enc_out_masked"][:, 2:].gather(1, hidden.index[:1, :, None].expand(-1, -1, 48))
    torch.testing.assert_close(outputs[:1], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(task.discriminator(outputs)[:1], ssast_golden["mpc_pred"], atol=1e-5, rtol=0)
    torch.testing.assert_close(task.generator(outputs)[:1], ssast_golden["mpg_pred"], atol=1e-5, rtol=0)
    log: dict[str, torch.Tensor] = {}
    nce = task.discriminative(grid, hidden, outputs, log)
    mse = task.generative(grid, hidden, outputs, log)
    close = {"rtol": 1e-4, "atol": 0}
    torch.testing.assert_close(nce, ssast_golden["mpc_nce"], **close)
    torch.testing.assert_close(mse, ssast_golden["mpg_mse"], **close)
    torch.testing.assert_close(nce + 10 * mse, ssast_golden["joint_loss"], **close)
    torch.testing.assert_close(log["accuracy"], ssast_golden["mpc_acc"], **close)
    task.nce_direction = "paper"
    paper = task.discriminative(grid, hidden, outputs, log)
    torch.testing.assert_close(paper, ssast_golden["nce_colwise_paper"], **close)


@pytest.mark.parametrize(("objective", "key"), [("discriminative", "mpc_grads"), ("generative", "mpg_grads")])
def test_gradients_equal_the_original(ssast_golden: dict, tmp_path: Path, objective: str, key: str) -> None:
    task, grid, hidden = golden_task(ssast_golden, tmp_path, objective=objective)
    getattr(task, objective)(grid, hidden, task.outputs(grid, hidden), {}).backward()
    gradients = {name: p.grad for name, p in task.named_parameters()}
    assert len([name for name in gradients if name.startswith(("discriminator", "generator"))]) == 4
    published = {"mask_embed": gradients["mask_embedding"][None, None]}
    tokens, positions = gradients["upstream.class_tokens"], gradients["upstream.class_positions"]
    published |= {"v.cls_token": tokens[0][None, None], "v.dist_token": tokens[1][None, None]}
    published["v.pos_embed"] = torch.cat([positions, gradients["upstream.positions"].flatten(0, 1)])[None]
    names = dict(convert._names(task.upstream.num_layers, classifier=False))
    published |= {old: gradients[f"upstream.{new}"] for old, new in names.items()}
    for old, new in convert.PREDICTORS.items():
        published |= {name.replace(new, old): g for name, g in gradients.items() if name.startswith(new)}
    checked = 0
    for name, expected in ssast_golden[key].items():
        # The discriminator's last bias moves no softmax over predictions: its gradient is rounding noise.
        tolerance = max(1e-4 * float(expected.abs().max()), 1e-6)
        torch.testing.assert_close(published[name].view_as(expected), expected, atol=tolerance, rtol=1e-4)
        checked += 1
    assert checked >= 15


def test_patch_order() -> None:
    for (height, width), (bin_, frame) in [((16, 16), (37, 50)), ((128, 2), (101, 7))]:
        cells = torch.zeros(1, 64, 128)
        cells[0, frame, bin_] = 1
        place = to_patches(cells, height, width).flatten(1, 2)[0].nonzero()
        columns = 64 // width
        row = [(bin_ // height) * columns + frame // width, (bin_ % height) * width + frame % width]
        assert place.tolist() == [row]


def reference_loss(task: SsastPretraining, batch: Batch) -> float:
    """Return the joint loss clip by clip, with loops, from the encoder's outputs."""
    grid = task.grid(batch)
    hidden, outputs = task.predict_from(grid, batch.seeds, MASK)
    nce, mse, count = 0.0, 0.0, 0
    cells = targets(grid, hidden)
    for clip in range(len(cells)):
        n = int(hidden.valid[clip].sum())
        x, r = cells[clip, :n], task.generator(outputs[clip, :n])
        scores = x @ task.discriminator(outputs[clip, :n]).T
        for i in range(n):
            nce += float(torch.logsumexp(scores[i], 0) - scores[i, i])
        mse += float(((r - x) ** 2).mean(1).sum())
        count += n
    return (nce + 10 * mse) / count


@pytest.mark.parametrize("name", ["patch_debug", "frame_debug"])
@torch.no_grad()
def test_batched_loss_equals_a_loop_over_clips_of_unequal_length(name: str) -> None:
    task = debug_task(name)
    batch = testing.make_batch([16000, 9000, 12345, 4000])
    assert float(task(batch)["loss"]) == pytest.approx(reference_loss(task, batch), rel=1e-5)


@torch.no_grad()
def test_clips_do_not_see_each_other() -> None:
    task = debug_task().eval()
    batch = testing.make_batch([16000, 16000])
    changed = Batch(batch.waveforms.clone(), batch.lengths, batch.ids, batch.seeds)
    changed.waveforms[1] = batch.waveforms[1].flip(0)
    first = [task.predict_from(task.grid(b), b.seeds, MASK)[1][0] for b in (batch, changed)]
    assert torch.equal(*first)
    losses = []
    for row in range(2):
        one = slice(row, row + 1)
        alone = Batch(batch.waveforms[one], batch.lengths[one], batch.ids[one], batch.seeds[one])
        losses.append(float(task(alone)["loss"]))
    assert float(task(batch)["loss"]) == pytest.approx(sum(losses) / 2, rel=1e-5)


@torch.no_grad()
def test_hidden_cells_do_not_leak() -> None:
    task = debug_task().eval()
    batch = testing.make_batch([16000])
    grid = task.grid(batch)
    hidden, outputs = task.predict_from(grid, batch.seeds, MASK)
    flat = grid.patches.flatten(1, 2).clone()
    flat[hidden.mask] = 5.0
    assert torch.equal(task.outputs(grid._replace(patches=flat.view_as(grid.patches)), hidden), outputs)
    flat = grid.patches.flatten(1, 2).clone()
    flat[~hidden.mask] += 0.1
    assert not torch.equal(task.outputs(grid._replace(patches=flat.view_as(grid.patches)), hidden), outputs)


@torch.no_grad()
def test_order_of_hidden_patches_does_not_matter() -> None:
    task = debug_task().eval()
    batch = testing.make_batch([16000, 16000])
    grid = task.grid(batch)
    hidden, _ = task.predict_from(grid, batch.seeds, MASK)
    turned = Hidden(hidden.index.flip(1), hidden.valid.flip(1), hidden.mask)
    for objective in ("discriminative", "generative"):
        losses = [getattr(task, objective)(grid, h, task.outputs(grid, h), {}) for h in (hidden, turned)]
        torch.testing.assert_close(*losses)


@torch.no_grad()
def test_start_values() -> None:
    """A fresh model guesses among 400 patches and predicts about 0."""
    torch.manual_seed(1)
    upstream = Ssast(**configs.load("upstream", "ssast/patch_tiny")[1])
    task = SsastPretraining(upstream)
    generator = torch.Generator().manual_seed(2)
    cells = 0.5 * torch.randn(2, 1024, 128, generator=generator)
    patches = to_patches(cells, 16, 16)
    grid = Grid(cells, patches, torch.full((2,), 64), torch.zeros(2, dtype=torch.long), None)
    hidden, outputs = task.predict_from(grid, torch.tensor([5, 6]), MASK)
    log: dict[str, torch.Tensor] = {}
    task.discriminative(grid, hidden, outputs, log)
    task.generative(grid, hidden, outputs, log)
    assert 6.00 <= float(log["nce"]) <= 6.03
    assert float(log["accuracy"]) <= 4 / 400
    assert 0.25 <= float(log["mse"]) <= 0.33
    assert float(log["mse_ratio"]) == pytest.approx(float(log["mse"]) / 0.25, rel=0.02)


def test_two_passes_hide_different_patches() -> None:
    batch = testing.make_batch([16000, 12000])
    one, two = debug_task(), debug_task(passes=2)
    first, second = one(batch), two(batch)
    torch.testing.assert_close(first["nce"], second["nce"])  # the first pass is the same
    assert not torch.equal(first["mse"], second["mse"])
    assert passes(two, batch) == 2
    for objective in ("discriminative", "generative"):
        assert passes(debug_task(objective=objective, passes=2), batch) == 1


def passes(task: SsastPretraining, batch: Batch) -> int:
    """Return how often a step runs the encoder."""
    calls, transform = [], task.upstream.transform

    def counted(*arguments: torch.Tensor) -> list[torch.Tensor]:
        calls.append(1)
        return transform(*arguments)

    task.upstream.transform = counted
    task(batch)
    return len(calls)


def test_positions_of_a_short_clip_come_from_all_over_the_table() -> None:
    task = debug_task()
    batch = testing.make_batch([16000] * 200)
    batch.seeds = torch.arange(200) * 977
    offset = task.grid(batch).offset
    assert sorted(set(offset.tolist())) == list(range(16 - 6 + 1))
    padded = debug_task(pad=True).grid(testing.make_batch([16000, 9000]))
    assert padded.offset.tolist() == [0, 0]
    assert padded.columns.tolist() == [16, 16]
    assert padded.keys is None
    torch.testing.assert_close(padded.cells[0, 98:], torch.full((158, 128), 0.46703), atol=1e-5, rtol=0)


def test_a_long_clip_gives_a_random_stretch() -> None:
    task = debug_task()
    batch = testing.make_batch([64000, 64000, 16000])
    grid = task.grid(batch)
    assert grid.cells.shape == (3, 256, 128)
    assert grid.columns.tolist() == [16, 16, 6]
    cells, _ = task.upstream.spectrogram(batch.waveforms, batch.lengths)
    starts = [[s for s in range(399) if torch.equal(cells[b, s : s + 8], grid.cells[b, :8])] for b in range(2)]
    assert all(len(s) == 1 for s in starts)
    assert starts[0] != starts[1]
    torch.testing.assert_close(grid.cells[2, :98], cells[2, :98])


def test_a_step_on_an_accelerator_never_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors refuse every read of a value and every shape that depends on one."""

    class Given(torch.nn.Module):  # the frontend is built on the CPU; it has a test of its own
        zero, target_frames = 0.467, None

    monkeypatch.setattr(model, "Spectrogram", lambda *_: Given())
    with FakeTensorMode(), torch.device("cuda"):
        for settings in ({}, {"sampler": "uniform_clusters", "passes": 2}, {"sampler": "patches", "pad": True}):
            upstream = Ssast(hidden_size=48, num_layers=2, num_heads=3, input_frames=256)
            task = SsastPretraining(upstream, **settings).train()
            cells, frames = torch.randn(3, 300, 128), torch.tensor([300, 90, 7])
            seeds = torch.tensor([1, 2, 3])
            grid = task.cut(cells, frames, seeds)
            hidden, outputs = task.predict_from(grid, seeds, MASK)
            assert task.discriminative(grid, hidden, outputs, {}).is_cuda
            assert task.generative(grid, hidden, outputs, {}).is_cuda


def test_an_empty_batch_costs_nothing() -> None:
    task = debug_task()
    batch = testing.make_batch([16000])
    batch.empty = True
    values = task(batch)
    assert float(values["weight"]) == 0
    assert float(values["loss"].detach()) == 0
    values["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in task.parameters())


def test_snapshot_shows_what_was_hidden_and_made() -> None:
    task = debug_task()
    arrays = task.snapshot(testing.make_batch([16000, 9000]))
    clean, masked, made = arrays["clean"], arrays["masked"], arrays["reconstructed"]
    assert clean.shape == masked.shape == made.shape == (2, 96, 128)
    changed = to_patches((masked != clean).float(), 16, 16).any(dim=3)
    hidden = from_patches(changed[..., None].expand(-1, -1, -1, 256), 16, 16)
    assert 0.6 < float(hidden[0].float().mean()) < 0.8
    assert torch.equal(made[0][~hidden[0]], clean[0][~hidden[0]])
    assert not torch.equal(made[0], clean[0])
    assert "reconstructed" not in debug_task(objective="discriminative").snapshot(testing.make_batch([16000]))
    assert math.isclose(float(arrays["frame_seconds"]), 0.01, rel_tol=1e-6)


def test_it_learns() -> None:
    task = debug_task(sampler="patches", mask_ratio=0.5)
    batch = testing.make_batch([16000] * 8)
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    first = task(batch)
    for _ in range(60):
        values = task(batch)
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
    assert float(values["mse_ratio"]) < 0.4 * float(first["mse_ratio"])
    assert float(values["accuracy"]) > 3 * float(first["accuracy"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "jiont"}, "nearest: 'joint'"),
        ({"passes": 3}, "1, 2"),
        ({"nce_direction": "papers"}, "paper"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
    ],
)
def test_wrong_settings(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        debug_task(**options)


def test_overlapping_patches_cannot_be_pretrained() -> None:
    config = configs.load("upstream", "ssast/patch_debug")[1]
    with pytest.raises(UserError, match="do not overlap"):
        SsastPretraining(registry.build_upstream("ssast", config | {"time_stride": 10}))
    with pytest.raises(UserError, match="position_grid"):
        SsastPretraining(registry.build_upstream("ssast", config | {"position_grid": [8, 30]}))
