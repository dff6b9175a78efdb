"""The loop: numbering of micro-batches, accumulation, clipping in groups, evaluation, logs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_training import Toy, ToyBatch, ToyStream, fit, schedule

from speechssl.errors import UserError
from speechssl.interfaces import PretrainTask
from speechssl.train.logging import TIME_FIELDS, read_metrics


def weights(task: PretrainTask) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_trains_without_files_and_returns_the_last_values() -> None:
    task = Toy()
    before = torch.get_rng_state()
    task, last = fit(None, task, max_steps=60, log_every=20)
    assert torch.equal(torch.get_rng_state(), before), "the caller's random numbers changed"
    assert last["step"] == 60
    assert last["loss"] < fit(None, max_steps=1, log_every=1)[1]["loss"]
    assert {"dev_loss", "largest", "lr", "grad_norm", "audio_seconds", "seconds", "rate"} <= last.keys()
    assert last["lr"] == pytest.approx(0.02 * schedule(60))
    assert task.training


def test_equals_a_plain_loop() -> None:
    """One group, no accumulation: clip_grad_norm_, AdamW and the schedule, written out."""
    task, _ = fit(None, Toy(dropout=0.0), max_steps=15)
    reference = Toy(dropout=0.0)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.02)
    stream = ToyStream().iterate(0)
    for step in range(1, 16):
        optimizer.zero_grad()
        reference(next(stream))["loss"].backward()
        nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 0.02 * schedule(step)
        optimizer.step()
    for (name, a), b in zip(task.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)


def test_accumulation_equals_one_large_batch() -> None:
    """Element weights: the batches count different numbers of rows, so a mean of means would differ."""

    class Joined(ToyStream):
        def batch(self, number: int) -> ToyBatch:
            parts = [super(Joined, self).batch(3 * number + i) for i in range(3)]
            return ToyBatch(torch.cat([p.x for p in parts]), torch.cat([p.mask for p in parts]), [])

    options: dict[str, Any] = {"max_steps": 5, "log_every": 1, "clip_norm": 0.0}
    apart, last = fit(None, Toy(dropout=0.0), accumulate=3, **options)
    joined, expected = fit(None, Toy(dropout=0.0), batches=Joined(), **options)
    unweighted, other = fit(None, Toy(dropout=0.0, weighted=False), accumulate=3, **options)
    assert last["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    assert last["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-5)
    assert other["loss"] != pytest.approx(expected["loss"], rel=1e-3)
    torch.testing.assert_close(apart.upstream.weight, joined.upstream.weight, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(unweighted.upstream.weight, joined.upstream.weight, rtol=1e-4, atol=1e-6)


def test_empty_batches_do_not_count() -> None:
    class Without(ToyStream):
        def batch(self, number: int) -> ToyBatch:
            return super().batch(number - number % 2)

    options: dict[str, Any] = {"max_steps": 6, "dev": None}
    odd_empty = ToyStream(empty=(1, 3, 5, 7, 9, 11))
    task, last = fit(None, Toy(dropout=0.0), batches=odd_empty, accumulate=2, max_unreadable=1.0, **options)
    twice, expected = fit(None, Toy(dropout=0.0), batches=Without(), accumulate=2, **options)
    assert last["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    torch.testing.assert_close(task.upstream.weight, twice.upstream.weight, rtol=1e-5, atol=1e-6)


def test_a_step_with_nothing_in_it_changes_no_weight(tmp_path: Path) -> None:
    task, _ = fit(tmp_path, Toy(), batches=ToyStream(empty=(3,)), max_steps=4, log_every=1, max_unreadable=1.0)
    before, _ = fit(None, Toy(), max_steps=3)
    assert torch.equal(task.head.weight, before.head.weight)
    state = torch.load(tmp_path / "checkpoints/step-00000004/state.pt", weights_only=True)
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {3}
    listed = (tmp_path / "unreadable.jsonl").read_text().splitlines()
    assert json.loads(listed[0]) == {"id": "lost-3", "reason": "no such file"}


class Grid(PretrainTask):
    """Heads with learning rates of their own; head `bad` is not finite from step `since` on."""

    def __init__(self, bad: int | None = None, since: int = 3) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
        for i, parameter in enumerate(self.parameters()):
            nn.init.constant_(parameter, 0.1 * (i + 1))
        self.bad, self.since, self.steps = bad, since, 0

    def forward(self, batch: ToyBatch) -> dict[str, Tensor]:
        self.steps += self.training
        losses = [head(batch.x).square().mean() for head in self.heads]
        if self.bad is not None and self.steps >= self.since:
            losses[self.bad] = losses[self.bad] * torch.inf
        return {"loss": torch.stack(losses).sum()} | {f"head{i}": loss.detach() for i, loss in enumerate(losses)}

    def gradient_groups(self) -> list[list[nn.Parameter]]:
        return [list(head.parameters()) for head in self.heads]


def grid_adam(task: nn.Module) -> torch.optim.Optimizer:
    rates = (1e-3, 1e-2, 1e-1)
    groups = [{"params": list(h.parameters()), "lr": lr} for h, lr in zip(task.heads, rates, strict=True)]
    return torch.optim.Adam(groups, fused=True)


def test_a_grid_of_heads_equals_separate_runs() -> None:
    options: dict[str, Any] = {"max_steps": 50, "clip_norm": 0.05, "dev": None}
    grid, _ = fit(None, Grid(), optimizer=grid_adam, **options)
    for i, rate in enumerate((1e-3, 1e-2, 1e-1)):
        alone = Grid()
        alone.heads = nn.ModuleList([alone.heads[i]])
        fit(None, alone, optimizer=lambda m, lr=rate: torch.optim.Adam(m.parameters(), lr=lr), **options)
        for a, b in zip(grid.heads[i].parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("on_device", [False, True], ids=["host", "device"])
def test_a_diverged_head_stays_and_leaves_the_others_alone(on_device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from speechssl.train.gradients import Gradients

    if on_device:  # what happens on a GPU; fused optimizers on the CPU understand it too
        monkeypatch.setattr(Gradients, "_step_on_host", Gradients._step_on_device)
    options: dict[str, Any] = {"max_steps": 8, "log_every": 4, "dev": None, "optimizer": grid_adam}
    sound, _ = fit(None, Grid(), **options)
    broken, last = fit(None, Grid(bad=1), **options)
    until, _ = fit(None, Grid(), **{**options, "max_steps": 2})
    assert last["step"] == 8
    assert last["skipped"] == pytest.approx(1 / 3)
    assert last["loss"] is None
    assert last["head1"] is None
    assert last["head0"] > 0
    for i, expected in enumerate((sound, until, sound)):
        for a, b in zip(broken.heads[i].parameters(), expected.heads[i].parameters(), strict=True):
            assert torch.equal(a, b), f"head {i}"


def test_gradient_groups_have_to_cover_the_optimizer() -> None:
    class Forgetful(Grid):
        def gradient_groups(self) -> list[list[nn.Parameter]]:
            return super().gradient_groups()[1:]

    with pytest.raises(ValueError, match="exactly once"):
        fit(None, Forgetful(), optimizer=grid_adam)


def test_micro_batches_are_numbered_through() -> None:
    stream = ToyStream()
    fit(None, batches=stream, max_steps=2, accumulate=3)
    assert stream.started == [(0, 1)]


def test_evaluation_and_callbacks_do_not_touch_training(tmp_path: Path) -> None:
    seen = []

    def disturb(step: int) -> None:
        seen.append(step)
        assert not task.training
        assert not torch.is_grad_enabled()
        torch.rand(7)

    task = Toy()
    fit(tmp_path, task, on_evaluation=disturb)
    quiet, _ = fit(None, dev=None, eval_every=0)
    assert seen == [5, 10, 15, 20]
    assert same(weights(task), weights(quiet))


def test_dev_is_the_mean_over_elements_and_always_the_same() -> None:
    task, last = fit(None, max_steps=1, log_every=1, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0))
    with torch.no_grad():
        values = [task.eval()(batch) for batch in ToyStream().once()]
    total = sum(float(v["loss"] * v["weight"]) for v in values)
    assert last["dev_loss"] == pytest.approx(total / sum(float(v["weight"]) for v in values), rel=1e-6)


def test_submodules_keep_their_mode_through_an_evaluation() -> None:
    class Frozen(Toy):
        def train(self, mode: bool = True) -> "Frozen":
            super().train(mode)
            self.upstream.eval()
            return self

    task, _ = fit(None, Frozen())
    assert task.training
    assert not task.upstream.training


def test_files_of_a_run(tmp_path: Path) -> None:
    fit(tmp_path, config={"a": {"b": 1}}, settings={"data": "x"})
    records = read_metrics(tmp_path)
    assert [r["step"] for r in records if r["split"] == "train"] == [3, 6, 9, 12, 15, 18, 20]
    assert [r["step"] for r in records if r["split"] == "dev"] == [5, 10, 15, 20]
    assert all(set(TIME_FIELDS) <= r.keys() for r in records if r["split"] == "train")
    assert (tmp_path / "config.yaml").read_text() == "a:\n  b: 1\n"
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert list((tmp_path / "tensorboard").iterdir())
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000016",
        "step-00000020",
    ]


def test_snapshots_are_written_at_evaluations(tmp_path: Path) -> None:
    class Pictured(Toy):
        def snapshot(self, batch: ToyBatch) -> dict[str, Tensor]:
            frames = torch.arange(6.0).reshape(1, 3, 2)
            return {"clean": frames, "altered": frames + 1, "lengths": torch.tensor([3])}

    fit(tmp_path, Pictured(), max_steps=5)
    import numpy as np

    arrays = np.load(tmp_path / "snapshots/step-00000005.npz", allow_pickle=False)
    assert arrays["clean"].shape == (1, 3, 2)
    assert (tmp_path / "snapshots/step-00000005.png").read_bytes()[:4] == b"\x89PNG"


def test_no_steps_leave_the_model_untrained(tmp_path: Path) -> None:
    task, last = fit(tmp_path, max_steps=0)
    assert last == {"step": 0}
    assert same(weights(task), weights(Toy()))
    assert (tmp_path / "environment.json").is_file()


def test_a_diverged_run_stops_with_advice() -> None:
    with pytest.raises(UserError, match=r"loss was not finite.*lower optim.lr"):
        fit(None, batches=ToyStream(scale=torch.inf))


def test_one_bad_step_is_skipped_and_counted(tmp_path: Path) -> None:
    class Spike(ToyStream):
        def batch(self, number: int) -> ToyBatch:
            return ToyStream(scale=torch.nan if number == 4 else 1.0).batch(number)

    _, last = fit(tmp_path, batches=Spike(), max_steps=6, log_every=3)
    assert last["skipped"] == pytest.approx(1 / 3)
    assert last["loss"] > 0


def test_a_corpus_that_cannot_be_read_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"none of \d+ utterances drawn could be read; the first: lost-0 \(no such file\)"
    ):
        fit(tmp_path, batches=ToyStream(empty=tuple(range(20))), max_unreadable=1.0)
    with pytest.raises(UserError, match=r"11 of \d+ utterances.*max_unreadable=0.05.*lost-0"):
        fit(
            tmp_path / "b",
            batches=ToyStream(broken=tuple(range(0, 50, 2))),
            max_unreadable=0.05,
            max_steps=60,
        )
    assert len((tmp_path / "b" / "unreadable.jsonl").read_text().splitlines()) == 11


def test_a_few_unreadable_files_are_tolerated(tmp_path: Path) -> None:
    fit(tmp_path, batches=ToyStream(broken=tuple(range(10))), max_unreadable=0.0)
    assert len((tmp_path / "unreadable.jsonl").read_text().splitlines()) == 10


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("log_every", 0, "log_every expects at least 1"),
        ("max_steps", -1, "max_steps expects 0 or more"),
        ("precision", "bf16-mix", "nearest: 'bf16-mixed'"),
        ("precision", "16-mixed", "needs a GPU"),
        ("devices", "two", "auto or a number"),
        ("devices", 2, "torchrun --nproc_per_node=2"),
        ("accelerator", "tpu", "expects one of auto, cpu, cuda"),
    ],
)
def test_wrong_settings_say_what_is_expected(setting: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(None, **{setting: value})


def test_bfloat16_trains_float32_weights() -> None:
    task, last = fit(None, precision="bf16-mixed", max_steps=40)
    assert last["dev_loss"] < fit(None, max_steps=1)[1]["dev_loss"]
    assert task.upstream.weight.dtype == torch.float32


def test_float16_trains_with_a_loss_scaler(float16_on_cpu: None, tmp_path: Path) -> None:
    """The first scales overflow: those steps are skipped, and the scale comes down."""
    task, last = fit(tmp_path, precision="auto", max_steps=60, accumulate=2)
    assert last["dev_loss"] < fit(None, max_steps=1)[1]["dev_loss"]
    assert task.upstream.weight.dtype == torch.float32
    state = torch.load(tmp_path / "checkpoints/step-00000060/state.pt", weights_only=True)
    assert state["precision"]["scale"] > 0
