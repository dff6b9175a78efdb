"""The protocol on tasks of every kind: filterbanks, layer weights, freezing, stacked heads, resuming, selection."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from speechssl import registry
from speechssl.data.cuts import Corpus, CutTable
from speechssl.downstream.ks.task import KeywordSpotting
from speechssl.downstream.qbe.task import QueryByExample
from speechssl.hub import weights_sha256
from speechssl.interfaces import DownstreamTask
from speechssl.probe import encoders, layerwise
from speechssl.probe import train as training
from speechssl.probe.batches import HeadBatches, Pieces, Split
from speechssl.probe.frames import FrameFeatures
from speechssl.probe.grid import Grid
from speechssl.probe.heads import build_head
from speechssl.probe.outcome import Outcome, Place
from speechssl.probe.train import HeadSettings, Probe
from speechssl.train.loop import Trainer

pytestmark = pytest.mark.usefixtures("undrawn")
NOWHERE = Place(None, 0, "settings", {})
UTTERANCE_TASKS = ["ks", "sid", "ic", "er"]
SMALL: dict[str, dict[str, Any]] = {  # arguments of heads that train in a second
    "pr": {"frame_ms": 30.0},
    "asr": {"projection_size": 32, "lstm_size": 24, "frame_ms": 30.0, "mask_channels": 4, "mask_frames": 4},
    "asv": {"width": 24, "pooled_size": 32, "min_seconds": 0.1, "crop_seconds": 0.6, "test_selected": 2},
    "sd": {"lstm_size": 24, "frame_ms": 50.0, "chunk_seconds": 0.5},
}


def make_task(name: str, corpus: Corpus, **settings: Any) -> Any:
    return registry.module("downstream", name).TASK(corpus, **SMALL.get(name, {}) | settings)


def make_probe(name: str, corpus: Corpus, folder: Path, upstream: str = "toy", **settings: Any) -> Probe:
    encoding = encoders.EncodingSettings("cpu", folder / "cache", "float32", 20.0, 0)
    given = {"steps": 20, "eval_every": 5, "batch_size": 8, "lrs": [1e-2, 1e-3]} | settings
    cache = encoders.Encoder(upstream, encoding, {}).on(corpus)[0]
    return Probe(make_task(name, corpus, **given), corpus, cache, HeadSettings())


# Filterbanks through the same path as any upstream


@pytest.mark.parametrize("name", UTTERANCE_TASKS)
def test_normalised_filterbanks_have_nothing_to_tell_utterances_apart(
    everything: Corpus, tmp_path: Path, name: str
) -> None:
    """Means over time are 0 after mean normalisation: a linear head has nothing but its bias."""
    probe = make_probe(name, everything, tmp_path, "fbank", lrs=[1e-3])
    upstream = probe.cache.upstream
    assert (upstream.num_layers, upstream.hidden_size, upstream.downsample_rate) == (0, 240, 160)
    found = probe.run(NOWHERE)
    assert not list(found.head.probe.mix.parameters())
    _, test = probe.examples("test")
    assert float(test.features.abs().max()) < 1e-5
    logits = found.head.probe(test.features[:, None], torch.ones(len(test)))[0].detach()
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), atol=1e-5, rtol=0)
    answer = found.scored.records[0]["hypothesis"]
    assert all(record["hypothesis"] == answer for record in found.scored.records)
    share = sum(record["reference"] == answer for record in found.scored.records) / len(test)
    assert found.metrics["acc"] == pytest.approx(100 * share)


@pytest.mark.parametrize(
    ("name", "steps", "lr", "most"), [("pr", 150, 1e-2, 40.0), ("asr", 160, 2e-2, 60.0), ("sd", 120, 1e-2, 40.0)]
)
def test_normalised_filterbanks_serve_frame_level_tasks(
    everything: Corpus, tmp_path: Path, name: str, steps: int, lr: float, most: float
) -> None:
    own = {"asr": {"spec_augment": False, "frame_ms": 60.0}, "sd": {"chunk_seconds": None}}.get(name, {})
    probe = make_probe(name, everything, tmp_path, "fbank", steps=steps, eval_every=steps, lrs=[lr], **own)
    found = probe.run(NOWHERE)
    assert found.metrics[probe.task.monitor] < most < probe.task.chance()


# Layer weights


def test_the_layer_that_carries_the_label_gets_the_weight_and_rows_say_how(
    words: Corpus, toys: dict, tmp_path: Path
) -> None:
    probe = make_probe("ks", words, tmp_path, steps=60, eval_every=10, lrs=[1e-1])

    def features(corpus: Corpus, table: Any, **_: Any) -> Tensor:
        """Noise in all layers, and the keyword in the second."""
        states = torch.randn(len(table), 3, 10, generator=torch.Generator().manual_seed(len(table)))
        classes = torch.tensor([probe.task.index[name] for name in table.column("keyword")])
        states[:, 1] += 3.0 * nn.functional.one_hot(classes, 10)
        return states

    probe.cache.features = features
    found = probe.run(NOWHERE).selection
    assert int(np.argmax(found.layer_weights)) == 1
    assert [step for step, _ in found.layer_curve] == [10, 20, 30, 40, 50, 60]
    for _, weights in found.layer_curve:
        assert sum(weights) == pytest.approx(1.0, abs=1e-6)
    assert found.layer_curve[0][1][1] < found.layer_curve[-1][1][1]
    assert [found.best_step, pytest.approx(found.layer_weights)] in found.layer_curve
    before = probe.build(probe.examples("train")[1], 0, (1e-1,)).heads[0].mix.weights
    assert before.tolist() == pytest.approx([1 / 3] * 3)


# Frozen means frozen


@pytest.mark.parametrize("name", ["ks", "asr", "asv", "sd"])
def test_frozen_models_stay_as_they_are(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    probe = make_probe(name, everything, tmp_path, steps=4, eval_every=2)
    upstream = probe.cache.upstream
    before, modes, evaluate = weights_sha256(upstream), [], Probe.evaluate

    def watched(*arguments: Any, **choices: Any) -> Any:
        found = evaluate(*arguments, **choices)
        modes.append(any(module.training for module in upstream.modules()))
        return found

    monkeypatch.setattr(Probe, "evaluate", watched)
    found = probe.run(NOWHERE)
    assert len(modes) > 4
    assert not any(modes)
    assert weights_sha256(upstream) == before
    assert all(p.grad is None and not p.requires_grad for p in upstream.parameters())
    assert found.selection.layer_weights != pytest.approx([1 / 3] * 3, abs=1e-6)  # the gradient reached the mix


def test_gradients_reach_the_layer_weights(everything: Corpus, toys: dict, tmp_path: Path) -> None:
    for name in ("ks", "asv", "sd", "pr"):
        probe = make_probe(name, everything, tmp_path, lrs=[1e-2])
        _, train = probe.examples("train")
        grid = probe.build(train, 0, (1e-2,))
        batch = HeadBatches(train, 8, 0, pieces=probe.pieces()).batch(0)
        assert not batch.features.requires_grad
        grid(batch)["loss"].backward()
        assert float(grid.heads[0].mix.logits.grad.abs().max()) > 0, name


# Pooled features are exact


@pytest.mark.parametrize("name", UTTERANCE_TASKS)
def test_pooled_features_give_the_logits_of_frames(everything: Corpus, toys: dict, tmp_path: Path, name: str) -> None:
    probe = make_probe(name, everything, tmp_path)
    table = everything.table("dev")
    probe.cache.fill(everything, table, frames=True)
    head = build_head(probe.task, 3, 10, 320, seed=1)
    head.mix.logits.data = torch.tensor([0.3, -1.0, 0.8])
    frames = head(*probe.cache.frames(everything, table).batch(range(len(table))))[0]
    means = probe.cache.pooled(everything, table)
    pooled = head(means[:, None], torch.ones(len(table), dtype=torch.long))[0]
    assert frames.shape == (16, {"ks": 3, "sid": 4, "ic": 6, "er": 2}[name])
    torch.testing.assert_close(pooled, frames, atol=1e-5, rtol=0)


# All learning rates in one pass


def trainer(steps: int, **settings: Any) -> Trainer:
    given = {"save_every": 0, "log_every": 10, "eval_every": 0, "accumulate": 1, "precision": "32-true"}
    given |= {"accelerator": "cpu", "devices": 1, "clip_norm": 1.0, "keep_checkpoints": 1, "max_unreadable": 1.0}
    return Trainer(max_steps=steps, progress=False, **given | settings)


def frame_batches(task: DownstreamTask, corpus: Corpus) -> HeadBatches:
    """Batches of random frames for the train utterances of a task, in pieces where it takes pieces."""
    generator, examples = np.random.default_rng(0), task.dataset("train")
    arrays = [generator.normal(size=(60 + i % 7, 3, 6)).astype(np.float32) for i in range(len(examples.cuts))]
    ids = list(examples.cuts.ids)
    targets = lambda labels, starts, counts: task.frame_targets(labels, starts, counts, 320)  # noqa: E731
    split = Split(FrameFeatures(arrays), examples.labels, ids, np.ones(len(ids)), targets)
    return HeadBatches(split, 8, seed=0, pieces=Pieces(crop=30 if task.crop_seconds else 0))


def fitted(task: DownstreamTask, lrs: list[float], batches: HeadBatches, clip_norm: float, steps: int = 50) -> Grid:
    head = build_head(task, 3, 6, 320, seed=3)
    grid = Grid(task, head, lrs, 1, stacked=len(lrs) > 1)
    settings = {"optimizer": Grid.optimizer, "schedule": lambda step: 1.0, "seed": 5}
    trainer(steps, clip_norm=clip_norm).fit(grid, batches, **settings)
    return grid


def gradient_norm(task: DownstreamTask, batches: HeadBatches) -> float:
    """Gradient norm of the first step."""
    grid = Grid(task, build_head(task, 3, 6, 320, seed=3), [1e-3], 1)
    grid(batches.batch(0))["loss"].backward()
    return float(nn.utils.get_total_norm([p.grad for p in grid.heads.parameters()]))


@pytest.mark.parametrize(("name", "stacked"), [("asv", True), ("pr", True), ("asr", False), ("sd", False)])
def test_learning_rates_together_equal_separate_runs(everything: Corpus, name: str, stacked: bool) -> None:
    task = make_task(name, everything)
    batches = frame_batches(task, everything)
    clip_norm = gradient_norm(task, batches) / 4
    lrs = [1e-3, 1e-4]  # at higher ones random labels blow rounding up to 1e-3 within 50 steps
    together = fitted(task, lrs, batches, clip_norm)
    assert (together.stack is not None) is stacked
    for head, lr in zip(together.heads, lrs, strict=True):
        alone = fitted(task, [lr], batches, clip_norm).heads[0]
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(head.state_dict()[key], value, atol=1e-5, rtol=0, msg=f"{key} at {lr}")


@pytest.mark.parametrize("name", ["asv", "pr"])
def test_a_diverged_head_leaves_its_neighbours_in_the_stack_alone(everything: Corpus, name: str) -> None:
    task = make_task(name, everything)
    batches = frame_batches(task, everything)
    mixed, healthy = (fitted(task, lrs, batches, 1.0, steps=10) for lrs in ([1e30, 1e-3], [1e-3]))
    assert not np.isfinite(float(mixed(batches.batch(0))["loss_1e+30"]))
    for key, value in healthy.heads[0].state_dict().items():
        torch.testing.assert_close(mixed.heads[1].state_dict()[key], value, atol=1e-5, rtol=0)
    assert all(bool(p.isfinite().all()) for p in mixed.parameters())


# Balance


def test_each_of_twelve_keywords_is_a_twelfth_of_what_is_drawn() -> None:
    counts = [200 * (12 if number == 10 else 1) + 7 * number for number in range(12)]  # one of them is most words
    classes = np.repeat(np.arange(12), counts)

    names = [f"{number:02d}" for number in classes]
    table = SimpleNamespace(column=lambda name: names, select=lambda rows: table)
    task = KeywordSpotting(SimpleNamespace(name="made-up", table=lambda split: table))
    examples = task.dataset("train")
    split = Split(torch.zeros(len(classes), 1, 1), examples.labels, names, np.ones(len(classes)))
    batches = HeadBatches(split, 32, seed=0, weights=task.sample_weights(examples))
    drawn = classes[np.concatenate([batches.indices(number) for number in range(313)])]
    assert len(drawn) >= 10_000
    assert np.bincount(drawn) / len(drawn) == pytest.approx([1 / 12] * 12, abs=0.01)


# Steps


def test_accumulated_batches_equal_one_that_holds_them_all(words: Corpus, toys: dict, tmp_path: Path) -> None:
    """4 batches of 8 per step, or 1 of 32: the same utterances, gradients and heads; 4 batches per step are read."""
    probe = make_probe("ks", words, tmp_path)
    _, train = probe.examples("train")
    read, grids = {8: [], 32: []}, []
    for size in read:
        batches, grid = HeadBatches(train, size, seed=0), probe.build(train, 0, (1e-2,))
        take = batches.batch
        batches.batch = lambda number, take=take, size=size: read[size].append(number) or take(number)
        settings = {"optimizer": Grid.optimizer, "schedule": lambda step: 1.0, "seed": 5}
        trainer(10, accumulate=32 // size).fit(grid, batches, **settings)
        grids.append(grid)
    assert read[8][:40] == list(range(40))
    assert len(set(read[8])) - 4 * len(set(read[32])) in range(-8, 9)  # batches are read some steps ahead
    for key, value in grids[0].heads.state_dict().items():
        torch.testing.assert_close(grids[1].heads.state_dict()[key], value, atol=1e-6, rtol=0)


class Halt(Exception):  # noqa: N818
    """Stands for a killed process."""


def kept(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "kept").glob("*"))}


@pytest.mark.parametrize("name", ["asr", "asv", "sd"])
def test_an_interrupted_training_on_frames_ends_like_an_uninterrupted_one(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """To the last bit, with masks and dropout (asr), crops and kept checkpoints (asv), and chunks (sd)."""
    monkeypatch.setattr(training, "SAVE_EVERY", 4)
    whole = make_probe(name, everything, tmp_path).run(Place(tmp_path / "whole", 0, "s", {}))
    broken, batch = Place(tmp_path / "broken", 0, "s", {}), HeadBatches.batch

    def stop(batches: HeadBatches, number: int) -> Any:
        if number == 15:  # after the evaluation at step 10 and the checkpoint at step 12
            raise Halt
        return batch(batches, number)

    with monkeypatch.context() as killed:
        killed.setattr(HeadBatches, "batch", stop)
        with pytest.raises(Halt):
            make_probe(name, everything, tmp_path).run(broken)
    drawn: list[int] = []
    monkeypatch.setattr(HeadBatches, "batch", lambda batches, number: drawn.append(number) or batch(batches, number))
    resumed = make_probe(name, everything, tmp_path).run(broken)
    assert drawn[0] == 12
    assert_same(resumed, whole)
    assert kept(tmp_path / "broken") == kept(tmp_path / "whole")
    assert bool(kept(tmp_path / "whole")) is (name == "asv")


def assert_same(one: Outcome, other: Outcome) -> None:
    for key, value in other.head.state_dict().items():
        assert torch.equal(one.head.state_dict()[key], value), key
    assert one.selection == other.selection
    assert one.metrics == other.metrics
    assert one.notes == other.notes


@pytest.mark.parametrize("name", ["asr", "asv", "sd"])
def test_evaluations_do_not_alter_training_on_frames(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    batches, losses = [], []
    forward = Grid.forward

    def watched(grid: Grid, batch: Any) -> dict[str, Tensor]:
        values = forward(grid, batch)
        batches[-1].append((batch.ids, batch.lengths.tolist()))
        losses[-1].append(float(values["loss"].detach()))
        return values

    monkeypatch.setattr(Grid, "forward", watched)
    for eval_every in (1, 20):
        batches.append([])
        losses.append([])
        make_probe(name, everything, tmp_path, eval_every=eval_every).run(NOWHERE)
    assert len(batches[0]) == 20
    assert batches[0] == batches[1]
    assert losses[0] == losses[1]


# Selection


@pytest.mark.parametrize("name", ["pr", "asr", "asv", "sd"])
def test_nothing_of_test_is_heard_before_a_head_is_selected(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """`asv` also scores its checkpoints on test: afterwards, and under a name that says so."""
    events, read, choose = [], CutTable.read, Probe._choices
    monkeypatch.setattr(CutTable, "read", lambda s, i, *a: events.append(s.ids[i].split("-")[0]) or read(s, i, *a))
    monkeypatch.setattr(Probe, "_choices", lambda *a: (choose(*a), events.append("selected"))[0])
    found = make_probe(name, everything, tmp_path, steps=4, eval_every=2).run(NOWHERE)
    place = events.index("selected")
    assert set(events[:place]) == {"train", "dev"}
    assert set(events[place + 1 :]) == {"test"}
    assert [key for key in found.metrics if "test_selected" in key] == {
        "asv": ["eer_test_selected"],
        "sd": ["der_test_selected"],
    }.get(name, [])


def test_nothing_of_test_is_heard_before_a_layer_is_selected(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, read, measure = [], CutTable.read, QueryByExample.measure

    def measured(task: Any, examples: Any, states: Any, layers: list[int]) -> Any:
        events.append(f"measured {len(layers)}")
        return measure(task, examples, states, layers)

    monkeypatch.setattr(CutTable, "read", lambda s, i, *a: events.append(s.ids[i].split("-")[0]) or read(s, i, *a))
    monkeypatch.setattr(QueryByExample, "measure", measured)
    encoding = encoders.EncodingSettings("cpu", tmp_path / "cache", "float32", 20.0, 0)
    cache = encoders.Encoder("toy", encoding, {}).on(everything)[0]
    found = layerwise.Layerwise(make_task("qbe", everything), everything, cache, "cpu").run(NOWHERE)
    place = events.index("measured 3")
    assert set(events[:place]) == {"dev"}
    assert set(events[place + 1 : -1]) == {"test"}
    assert events[-1] == "measured 1"
    assert found.metrics["mtwv"] > 0


def test_the_first_of_equal_best_evaluations_is_kept(
    everything: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripted dev scores 0.5, 0.7, 0.7, 0.6 in a real run: the head of the second evaluation is tested."""
    scores, heads, evaluate = iter([0.5, 0.7, 0.7, 0.6]), [], Probe.evaluate

    class Scripted:
        def compute(self) -> dict[str, float]:
            return {"acc": next(scores)}

    def scripted(probe: Probe, grid: Grid, head: nn.Module, split: Split, **choices: Any) -> Any:
        if len(heads) == 4:
            return evaluate(probe, grid, head, split, **choices)
        heads.append(copy.deepcopy(head.state_dict()))
        return Scripted()

    monkeypatch.setattr(Probe, "evaluate", scripted)
    found = make_probe("ks", everything, tmp_path, lrs=[1e-1]).run(NOWHERE)
    assert (found.selection.best_step, found.selection.dev) == (10, 0.7)
    for key, value in heads[1].items():
        assert torch.equal(found.head.state_dict()[f"probe.{key}"], value), key
    assert not torch.equal(heads[1]["head.classifier.weight"], heads[2]["head.classifier.weight"])
