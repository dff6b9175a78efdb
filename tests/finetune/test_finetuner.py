"""What a fine-tuned result claims: what was trained on what, how it was selected, and that it continues exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechssl.data.cuts import Corpus, CutTable
from speechssl.downstream import aec
from speechssl.errors import AudioError, UserError
from speechssl.finetune import finetuner as module
from speechssl.finetune.checks import check_task
from speechssl.finetune.finetuner import Finetuner
from speechssl.finetune.objective import Finetuning
from speechssl.finetune.training import Training
from speechssl.hub import weights_sha256
from speechssl.interfaces import DownstreamTask, Upstream
from speechssl.probe.outcome import Outcome, Place
from speechssl.train.checkpoint import checkpoints

Settings = Callable[..., Any]


def run(task: DownstreamTask, toy: Upstream, settings: Any, folder: Path | None = None, seed: int = 0) -> Outcome:
    tuner = Finetuner(task, task.corpus, toy, settings, device="cpu", max_seconds=20.0)
    return tuner.run(Place(folder, seed, "digest", {}))


def states(outcome: Outcome) -> dict[str, torch.Tensor]:
    return {**outcome.upstream.state_dict(), **outcome.head.state_dict()}


def assert_equal(one: Outcome, other: Outcome) -> None:
    for name, value in states(one).items():
        assert torch.equal(states(other)[name], value), name
    assert one.metrics == other.metrics
    assert one.selection == other.selection


def test_the_whole_model_learns_and_the_original_stays(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    before = weights_sha256(toy)
    outcome = run(task, toy, settings(epochs=12))
    assert outcome.metrics["acc"] > 80
    assert weights_sha256(toy) == before
    assert weights_sha256(outcome.upstream) != before
    assert outcome.sizes == {"train": 30, "dev": 12, "test": 18}
    assert [record["id"] for record in outcome.scored.records] == task.corpus.table("test").ids
    assert outcome.notes == {"trained_on": "train", "refit": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "task", "loss": "task", "layers": "mix"},
        {"loss": "bce", "mixup": 0.5, "frequency_mask": 3, "time_mask": 3, "noise": True, "crop_seconds": 0.15},
        {"optimizer": "adamw", "weight_decay": 0.1, "schedule": "linear", "clip_norm": 1.0, "accumulate": 2},
        {"balance": True, "freeze_epochs": 1, "steps": 20, "eval_every": 10},
        {"optimizer": "adamw", "layer_decay": 0.7, "schedule": "cosine", "lr_floor": 0.1, "label_smoothing": 0.1},
    ],
)
def test_recipes_beat_chance(task: DownstreamTask, toy: Upstream, settings: Settings, changes: dict[str, Any]) -> None:
    outcome = run(task, toy, settings(**{"epochs": 10} | changes))
    assert outcome.metrics["acc"] > 50
    weights = outcome.selection.layer_weights
    if changes.get("layers") == "mix":
        assert sum(weights) == pytest.approx(1.0)
        assert weights[0] != weights[1]
    else:
        assert weights is None


def test_a_seed_gives_one_result_whatever_the_workers(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    recipe = {"mixup": 0.5, "noise": True, "epochs": 2}
    first = run(task, toy, settings(**recipe))
    assert_equal(first, run(task, toy, settings(**recipe, num_workers=1)))
    other = run(task, toy, settings(**recipe), seed=1)
    assert not torch.equal(first.head.head.classifier.weight, other.head.head.classifier.weight)


def test_several_labels_per_clip(tones: Corpus, toy: Upstream, settings: Settings) -> None:
    events = aec.TASK(tones)
    assert events.multi_label
    recipe = settings(loss="bce", mixup=0.3, balance=True, epochs=15)
    outcome = run(events, toy, recipe)
    assert outcome.metrics["map"] > 75
    same = outcome.scored.main(np.ones((1, len(outcome.scored.records))))
    assert same[0] == pytest.approx(outcome.metrics["map"])
    assert outcome.head.head.classifier.out_features == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recipes_beat_chance_on_a_gpu(task: DownstreamTask, toy: Upstream, settings: Settings) -> None:
    recipe = settings(
        precision="bf16-mixed",
        frequency_mask=2,
        time_mask_share=0.2,
        time_warp=2,
        noise=True,
        mixup=0.2,
        select="average",
        average_from=6,
    )
    outcome = Finetuner(task, task.corpus, toy, recipe, device="cuda", max_seconds=20.0).run(Place(None, 0, "", {}))
    assert outcome.metrics["acc"] > 50
    assert next(outcome.upstream.parameters()).dtype == torch.float32


class Killed(Exception):  # noqa: N818
    """Stands for kill -9."""


@pytest.mark.parametrize("select", ["dev", "average"])
def test_a_killed_run_ends_like_one_that_was_not(
    task: DownstreamTask,
    toy: Upstream,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    select: str,
) -> None:
    recipe = settings(
        lrs=[3e-3, 1e-3],
        layer_decay=0.8,
        roll=0.0,
        time_warp=2,
        time_mask_share=0.2,
        mixup=0.5,
        noise=True,
        frequency_mask=3,
        select=select,
        freeze_epochs=1,
        average_from=2 if select == "average" else None,
    )
    whole = run(task, toy, recipe, tmp_path / "whole")
    for killed_at in (8, 24):  # in the first training and in the second; checkpoints are at every fifth step
        forward, calls = Finetuning.forward, iter(range(1, 1000))

        def dying(self: Finetuning, batch: Any, at: int = killed_at, calls: Any = calls, go: Any = forward) -> Any:
            if next(calls) == at:
                raise Killed
            return go(self, batch)

        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(Finetuning, "forward", dying)
            run(task, toy, recipe, tmp_path / "killed")
    assert checkpoints(tmp_path / "killed" / "lr-0.003").keys() == {18}
    assert_equal(whole, run(task, toy, recipe, tmp_path / "killed"))


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let dev show these main metrics one after the other."""
    shown = iter(values)
    monkeypatch.setattr(module.Scoring, "main", lambda self, model: next(shown))


def test_dev_selects_epoch_and_learning_rate(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [10, 50, 50, 40, 60, 55])
    found = run(task, toy, settings(lrs=[1e-3, 1e-2], epochs=3)).selection
    assert (found.lr, found.dev, found.best_step, found.steps, found.epochs) == (1e-2, 60.0, 6, 9, 3)
    assert found.grid == {"0.001": 50.0, "0.01": 60.0}
    assert found.curves["0.001"] == [[3, 10.0], [6, 50.0], [9, 50.0]]


def test_error_rates_are_selected_by_their_lowest(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task, "mode", "min")
    scripted(monkeypatch, [10, 50, 50, 40, 60, 8])
    found = run(task, toy, settings(lrs=[1e-3, 1e-2], epochs=3)).selection
    assert (found.lr, found.dev, found.best_step) == (1e-2, 8.0, 9)
    assert found.grid == {"0.001": 10.0, "0.01": 8.0}


def test_a_dev_metric_that_is_never_a_number_is_an_error(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [float("nan")] * 3)
    with pytest.raises(UserError, match="never a number"):
        run(task, toy, settings(epochs=3))


def lengths_of_trainings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """Return a list that receives (utterances, stop) of every training that is begun."""
    begun: list[tuple[int, int | None]] = []
    fit = Training.fit

    def noted(self: Training, examples: Any, lr: float, name: str, score: Any, stop: int | None = None) -> Finetuning:
        begun.append((len(examples.cuts), stop))
        return fit(self, examples, lr, name, score, stop)

    monkeypatch.setattr(Training, "fit", noted)
    return begun


def test_given_folds_are_trained_anew_on_train_and_dev(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.refit = True
    scripted(monkeypatch, [10, 50, 40])
    begun = lengths_of_trainings(monkeypatch)
    outcome = run(task, toy, settings(epochs=3))
    assert begun == [(30, None), (42, 8)]  # two epochs of round(42 / 10) steps
    assert outcome.notes == {"trained_on": "train+dev", "refit": True, "refit_steps": 8}
    assert outcome.selection.dev == 50.0


def test_given_folds_without_selection_are_joined_from_the_start(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.refit = True
    begun = lengths_of_trainings(monkeypatch)
    monkeypatch.setattr(module.Scoring, "main", lambda *_: pytest.fail("looked at dev"))
    outcome = run(task, toy, settings(select="last", epochs=2))
    assert begun == [(42, None)]
    assert outcome.notes == {"trained_on": "train+dev", "refit": False}
    assert np.isnan(outcome.selection.dev)
    assert outcome.selection.best_step == 8


def test_a_corpus_without_dev_is_trained_to_the_end_or_refused(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task.corpus, "splits", ["train", "test"])
    assert run(task, toy, settings(select="last", epochs=2)).sizes["dev"] == 0
    for wrong in ({"select": "dev"}, {"select": "last", "lrs": [1e-3, 1e-4]}):
        with pytest.raises(UserError, match="needs a dev split"):
            check_task(task, task.corpus, settings(**wrong))


def test_test_is_read_when_everything_is_chosen(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, read, dataset = [], CutTable.read, type(task).dataset
    monkeypatch.setattr(CutTable, "read", lambda s, i, *a: events.append(s.ids[i].split("-")[0]) or read(s, i, *a))
    monkeypatch.setattr(type(task), "dataset", lambda s, split: events.append(split) or dataset(s, split))
    run(task, toy, settings(epochs=2))
    place = events.index("test")
    assert {"train", "dev"} <= set(events[:place])
    assert set(events[place:]) == {"test"}


def test_unreadable_utterances_are_left_out(
    task: DownstreamTask, toy: Upstream, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read = CutTable.read

    def broken(table: CutTable, index: int, *rest: int) -> np.ndarray:
        if table.ids[index] in ("train-3", "dev-1", "test-0"):
            raise AudioError("broken")
        return read(table, index, *rest)

    monkeypatch.setattr(CutTable, "read", broken)
    outcome = run(task, toy, settings(epochs=2, mixup=0.5), tmp_path)
    assert outcome.unreadable == 3
    assert outcome.sizes["test"] == 17
    assert "test-0" not in [record["id"] for record in outcome.scored.records]


@pytest.mark.parametrize("wrong", [{"head": "linear", "loss": "task"}, {"head": "task", "loss": "bce"}])
def test_tasks_without_classes_are_refused(tones: Corpus, settings: Settings, wrong: dict[str, str]) -> None:
    class NoClasses(DownstreamTask):
        name = "transcription"

    with pytest.raises(UserError, match="needs a task with classes, which transcription is not"):
        check_task(NoClasses(), tones, settings(**wrong))
