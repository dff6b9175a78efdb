from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechssl.interfaces import DownstreamTask
from speechssl.probe.batches import HeadBatches, Split
from speechssl.probe.frames import FrameFeatures
from speechssl.probe.grid import Grid, evaluate_head, halving_schedule
from speechssl.probe.heads import ProbeHead, Standardize, build_head
from speechssl.train.loop import Trainer


class Tiny(nn.Module):
    """A head with dropout, so that equal random numbers matter."""

    def __init__(self, size: int):
        super().__init__()
        self.linear, self.dropout = nn.Linear(size, 3), nn.Dropout(0.3)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(self.dropout(features)).mean(dim=1), lengths


class TinyTask(DownstreamTask):
    monitor, mode = "acc", "max"
    steps, eval_every = 50, 10

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        return Tiny(hidden_size)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        return {"loss": 20 * nn.functional.cross_entropy(outputs, torch.tensor(labels["class"]))}


class TinyErrorTask(TinyTask):
    monitor, mode = "wer", "min"


def batches(framed: bool = False) -> HeadBatches:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(64, 4, 6, generator=generator)
    labels = {"class": torch.randint(0, 3, (64,), generator=generator).tolist()}
    if framed:
        arrays = [row[None].repeat(1 + i % 5, 1, 1).numpy() for i, row in enumerate(features)]
        features = FrameFeatures(arrays)
    return HeadBatches(Split(features, labels, [str(i) for i in range(64)], np.ones(64)), 16, seed=0)


def make_grid(lrs: list[float], evaluations: int = 10) -> Grid:
    return Grid(TinyTask(), build_head(TinyTask(), 4, 6, 160, seed=3), lrs, evaluations)


def trainer(steps: int, clip_norm: float = 1.0, eval_every: int = 0) -> Trainer:
    return Trainer(
        max_steps=steps,
        save_every=0,
        log_every=10,
        eval_every=eval_every,
        accumulate=1,
        precision="32-true",
        accelerator="cpu",
        devices=1,
        clip_norm=clip_norm,
        keep_checkpoints=1,
        max_unreadable=1.0,
        progress=False,
    )


def fit(grid: Grid, steps: int = 50, **settings: Any) -> Grid:
    trainer(steps).fit(grid, batches(), optimizer=Grid.optimizer, schedule=lambda step: 1.0, seed=5, **settings)
    return grid


def test_equals_separate_runs_with_clipping_active() -> None:
    lrs = [1e-1, 1e-2, 1e-3]
    together = fit(make_grid(lrs))
    for head, lr in zip(together.heads, lrs, strict=True):
        alone = fit(make_grid([lr])).heads[0]
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(head.state_dict()[name], value, atol=1e-5, rtol=0, msg=f"{name} at {lr}")
    assert not torch.equal(together.heads[0].head.linear.weight, together.heads[1].head.linear.weight)


def test_equals_a_plain_loop_with_clipping_active() -> None:
    task, head = TinyTask(), build_head(TinyTask(), 4, 6, 160, seed=3)
    head.head.dropout.p = 0.0
    grid = Grid(task, head, [1e-2, 1e-3], 1)
    fit(grid)
    optimizer, clipped = torch.optim.Adam(head.parameters(), lr=1e-3), 0
    for batch in [batch for batch, _ in zip(batches().iterate(0), range(50), strict=False)]:
        optimizer.zero_grad()
        task.loss(*head(batch.features, batch.lengths), batch.labels)["loss"].backward()
        clipped += int(nn.utils.clip_grad_norm_(head.parameters(), 1.0) > 1.0)
        optimizer.step()
    assert clipped > 25
    for name, value in head.state_dict().items():
        torch.testing.assert_close(grid.heads[1].state_dict()[name], value, atol=1e-5, rtol=0)


class Fragile(Tiny):
    """Overflows once its weights are large."""

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs, lengths = super().forward(features, lengths)
        return outputs.square().square().square().square(), lengths


def test_a_diverged_head_leaves_the_others_alone() -> None:
    def build(lrs: list[float]) -> Grid:
        torch.manual_seed(0)
        return Grid(TinyTask(), ProbeHead(4, Fragile(6)), lrs, 1)

    mixed, healthy = fit(build([1e6, 1e-3])), fit(build([1e-3]))
    for name, value in healthy.heads[0].state_dict().items():
        torch.testing.assert_close(mixed.heads[1].state_dict()[name], value, atol=1e-6, rtol=0)
    assert all(bool(p.isfinite().all()) for p in mixed.parameters())
    assert float(mixed.heads[0].head.linear.weight.detach().abs().max()) > 1e5
    losses = mixed(next(batches().iterate(0)))
    assert not np.isfinite(float(losses["loss_1e+06"]))
    assert np.isfinite(losses["loss"].item())


def scripted(grid: Grid, scores: list[list[float]]) -> None:
    """Evaluate at steps 10, 20, ... with these dev scores per head, marking the weights with the step."""
    for number, row in enumerate(scores, start=1):
        values = iter(row)
        for head in grid.heads:
            nn.init.constant_(head.head.linear.weight, 10.0 * number)
        grid.evaluate(10 * number, lambda head, values=values: next(values))


def test_the_first_of_equal_best_steps_is_kept() -> None:
    grid = make_grid([1e-2])
    scripted(grid, [[0.5], [0.7], [0.7], [0.6]])
    assert grid.best_step.tolist() == [20]
    assert float(grid.best[0].head.linear.weight[0, 0]) == 20.0
    assert grid.curves() == {"0.01": [[10, 0.5], [20, 0.7], [30, 0.7], [40, 0.6]]}


def test_the_best_learning_rate_is_chosen_by_dev() -> None:
    grid = make_grid([1e-1, 1e-2, 1e-3])
    scripted(grid, [[0.5, 0.6, np.nan], [0.4, 0.8, 0.8]])
    assert grid.selected() == 1
    lowest = Grid(TinyErrorTask(), build_head(TinyTask(), 4, 6, 160, seed=3), [1e-1, 1e-2], 10)
    scripted(lowest, [[50.0, 60.0], [40.0, 45.0], [40.0, 35.0]])
    assert lowest.best_value.tolist() == [40.0, 35.0]
    assert lowest.best_step.tolist() == [20, 30]
    assert lowest.selected() == 1


def test_evaluating_a_step_again_after_resuming_changes_nothing() -> None:
    grid = make_grid([1e-2])
    scripted(grid, [[0.5]])
    grid.evaluate(10, lambda head: pytest.fail("scored again"))
    assert grid.best_step.tolist() == [10]


class Halt(Exception):  # noqa: N818
    """Stands for a killed process."""


def test_an_interrupted_training_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    def run(folder: Path, stop_at: int | None = None) -> Grid:
        grid = make_grid([1e-1, 1e-2], evaluations=6)

        def on_evaluation(step: int) -> None:
            if step == stop_at:
                raise Halt
            grid.evaluate(step, lambda head: float(head.head.linear.weight.sum()))

        loop = trainer(60, eval_every=10)
        loop.save_every = 20
        settings = {
            "schedule": lambda step: 1.0,
            "seed": 5,
            "run_dir": folder,
            "on_evaluation": on_evaluation,
        }
        loop.fit(grid, batches(), optimizer=Grid.optimizer, **settings)
        return grid

    whole = run(tmp_path / "whole")
    with pytest.raises(Halt):
        run(tmp_path / "broken", stop_at=50)
    resumed = run(tmp_path / "broken")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_evaluation_does_not_alter_training() -> None:
    def score(head: nn.Module) -> float:
        torch.rand(3)  # an evaluation that uses random numbers
        return 0.0

    plain, watched = make_grid([1e-2]), make_grid([1e-2])
    fit(plain)
    trainer(50, eval_every=7).fit(
        watched,
        batches(),
        optimizer=Grid.optimizer,
        schedule=lambda step: 1.0,
        seed=5,
        on_evaluation=lambda step: watched.evaluate(step, score),
    )
    for name, value in plain.heads.state_dict().items():
        assert torch.equal(watched.heads.state_dict()[name], value), name


def test_standardisation_is_affine_and_silences_constant_channels() -> None:
    states = torch.randn(100, 3, 5, generator=torch.Generator().manual_seed(0)) * 4 + 100
    states[:, 1, 2] = 7.0
    states[:, 2, 0] = 1e-7 * torch.randn(100)
    variance, mean = torch.var_mean(states, dim=0, correction=0)
    found = Standardize(mean, variance.sqrt())(states)
    assert not found[:, 1, 2].any()
    assert not found[:, 2, 0].any()
    assert float(found[:, 0].std(dim=0, correction=0).mean()) == pytest.approx(1.0, abs=1e-4)
    assert float(found[:, 0].mean()) == pytest.approx(0.0, abs=1e-4)


class Collect:
    def __init__(self) -> None:
        self.outputs: dict[str, Tensor] = {}

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        self.outputs |= dict(zip(ids, outputs, strict=True))


def test_scoring_is_in_evaluation_mode_and_gives_the_mode_back() -> None:
    grid, split = make_grid([1e-2]), batches(framed=True).split
    grid.train()
    metric = evaluate_head(grid, grid.heads[0], split.scoring_batches(), Collect(), torch.device("cpu"))
    again = evaluate_head(grid, grid.heads[0], split.scoring_batches(), Collect(), torch.device("cpu"))
    assert len(metric.outputs) == 64
    assert all(torch.equal(metric.outputs[name], again.outputs[name]) for name in metric.outputs)
    assert grid.heads[0].training
    assert grid.heads[0].head.dropout.training


class Twins(nn.Module):
    """A head that can be stacked."""

    stackable = True

    def __init__(self, size: int):
        super().__init__()
        self.hidden, self.linear = nn.Linear(size, 8), nn.Linear(8, 3)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(self.hidden(features).relu()).mean(dim=1), lengths


class TwinTask(TinyTask):
    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        return Twins(hidden_size)


def twins(lrs: list[float], **settings: Any) -> Grid:
    return Grid(TwinTask(), build_head(TwinTask(), 4, 6, 160, seed=3), lrs, 10, **settings)


def test_stacked_heads_equal_separate_runs() -> None:
    lrs = [1e-1, 1e-2, 1e-3]
    stacked = fit(twins(lrs, stacked=True))
    assert stacked.stack is not None
    for head, lr in zip(stacked.heads, lrs, strict=True):
        alone = fit(twins([lr], stacked=True)).heads[0]
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(head.state_dict()[name], value, atol=1e-5, rtol=0, msg=f"{name} at {lr}")


def test_a_diverged_head_leaves_those_it_is_stacked_with_alone() -> None:
    mixed, healthy = fit(twins([1e30, 1e-3], stacked=True)), fit(twins([1e-3]))
    assert mixed.stack is not None
    for name, value in healthy.heads[0].state_dict().items():
        torch.testing.assert_close(mixed.heads[1].state_dict()[name], value, atol=1e-6, rtol=0)
    assert float(mixed.heads[0].head.linear.weight.detach().abs().max()) > 1e20


def test_a_stack_is_rebuilt_where_parameters_were_moved() -> None:
    grid = twins([1e-1, 1e-2], stacked=True)
    batch = next(batches().iterate(0))
    before = grid(batch)["loss_0.01"]
    for parameter in grid.heads.parameters():
        parameter.data = parameter.data.clone() * 2
    after = grid(batch)["loss_0.01"]
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, Grid.forward(_unstacked(grid), batch)["loss_0.01"])


def _unstacked(grid: Grid) -> Grid:
    copied = twins(list(grid.lrs))
    copied.heads.load_state_dict(grid.heads.state_dict())
    return copied


def test_halving_gives_up_the_worse_half() -> None:
    assert halving_schedule(5, 1000, 10) == {20: 3, 50: 2, 200: 1}
    assert halving_schedule(4, 100, 20) == {20: 2}
    assert halving_schedule(1, 1000, 10) == {}
    lrs = [1e-1, 1e-2, 1e-3, 1e-4]
    scores = {0.1: 0.2, 0.01: 0.9, 0.001: 0.8, 0.0001: 0.1}
    for stacked in (False, True):
        grid = twins(lrs, halving={10: 2, 30: 1}, stacked=stacked)

        def on_evaluation(step: int, grid: Grid = grid) -> None:
            values = iter([scores[grid.lrs[number]] for number in grid.active])
            grid.evaluate(step, lambda head: next(values))

        trainer(50, eval_every=10).fit(
            grid, batches(), optimizer=Grid.optimizer, schedule=lambda s: 1.0, seed=5, on_evaluation=on_evaluation
        )
        assert grid.active == [1]
        assert grid.selection().dropped == {"0.1": 10, "0.001": 30, "0.0001": 10}
        assert grid.curves()["0.1"][0] == [10, 0.2]
        assert np.isnan(grid.curves()["0.1"][1][1])
        for number, steps in ((0, 10), (1, 50), (2, 30)):
            alone = fit(twins([lrs[number]]), steps=steps).heads[0]
            for name, value in alone.state_dict().items():
                torch.testing.assert_close(grid.heads[number].state_dict()[name], value, atol=1e-5, rtol=0)
