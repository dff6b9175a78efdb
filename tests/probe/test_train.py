"""Probes of utterance-level tasks: poolings, training anew on train and dev, and metrics that are no ratio."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from speechssl.data.cuts import Corpus
from speechssl.downstream.aec.task import AudioEventClassification
from speechssl.probe import encoders, runner
from speechssl.probe import train as training
from speechssl.probe.batches import HeadBatches, join
from speechssl.probe.compare import compare
from speechssl.probe.outcome import Place
from speechssl.probe.rows import read_lines
from speechssl.probe.train import HeadSettings, Probe

PROBE = {"standardize": False, "steps": 60, "batch_size": 16, "eval_every": 20, "lrs": [1e-1], "clip_norm": None}
NOWHERE = Place(None, 0, "settings", {})


def run(upstream: Any, tasks: Any, data: Any, run_dir: Path, **settings: Any) -> list[dict]:
    arguments = {"seeds": [0], "label": None, "task": {}, "cache": None, "device": "cpu", "max_seconds": 20.0}
    arguments |= {"settings": {}, "finetune": False, "preset": None, "finetuning": {}, "num_workers": 0} | settings
    return runner.benchmark(upstream, tasks, str(data), run_dir, probe=PROBE | {"frame_dtype": "float32"}, **arguments)


def make_probe(corpus: Corpus, folder: Path, standardize: bool = False, **settings: Any) -> Probe:
    """A probe of the toy upstream with its cache in a folder."""
    encoding = encoders.EncodingSettings(
        device="cpu", cache=folder, frame_dtype="float32", max_seconds=20.0, num_workers=0
    )
    given = {"steps": 40, "batch_size": 16, "eval_every": 10, "lrs": [1e-1, 1e-3], "label": "keyword"} | settings
    task = AudioEventClassification(corpus, **given)
    settings = HeadSettings("cpu", standardize)
    return Probe(task, corpus, encoders.Encoder("toy", encoding, {}).on(corpus)[0], settings)


def test_a_refit_trains_on_train_and_dev_with_what_was_selected(words: Corpus, toys: dict, tmp_path: Path) -> None:
    probe = make_probe(words, tmp_path, standardize=True, refit=True)
    looked_at, examples = [], probe.examples

    def watched(split: str) -> Any:
        looked_at.append(split)
        return examples(split)

    probe.examples = watched
    found = probe.run(NOWHERE)
    assert looked_at == ["train", "dev", "test"]
    assert found.notes == {"refit": True, "choices": {}}
    chosen = found.selection

    everything = join(examples("train")[1], examples("dev")[1])
    assert len(everything) == 84
    grid = probe.build(everything, 0, (chosen.lr,))
    head, batches = grid.heads[0], HeadBatches(everything, 16, 0)
    optimizer = torch.optim.Adam(head.parameters(), lr=chosen.lr)
    for number in range(chosen.best_step):
        batch = everything.batch(batches.indices(number))
        optimizer.zero_grad()
        outputs, lengths = head(grid.prepare(batch.features), batch.lengths)
        probe.task.loss(outputs, lengths, batch.labels)["loss"].backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
    state = found.head.state_dict()
    for name, value in head.state_dict().items():
        torch.testing.assert_close(state[f"probe.{name}"], value, atol=1e-5, rtol=0)
    torch.testing.assert_close(state["standardize.mean"], everything.moments()[0])
    assert chosen.layer_weights == found.head.probe.mix.weights.tolist()


def test_without_a_refit_the_selected_head_is_tested(words: Corpus, toys: dict, tmp_path: Path) -> None:
    plain, again = (make_probe(words, tmp_path, refit=refit).run(NOWHERE) for refit in (False, True))
    assert plain.notes == {"refit": False, "choices": {}}
    assert plain.selection.curves == again.selection.curves
    assert not torch.equal(plain.head.probe.head.classifier.weight, again.head.probe.head.classifier.weight)


class Halt(Exception):  # noqa: N818
    """Stands for a killed process."""


def test_an_interrupted_refit_ends_like_an_uninterrupted_one(
    words: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 8)
    settings = {"refit": True, "steps": 20, "eval_every": 20}
    whole = make_probe(words, tmp_path, **settings).run(Place(tmp_path / "whole", 0, "s", {}))
    assert whole.selection.best_step == 20
    indices = HeadBatches.indices

    def stop(batches: HeadBatches, number: int) -> np.ndarray:
        if len(batches.split) == 84 and number == 13:
            raise Halt
        return indices(batches, number)

    broken = Place(tmp_path / "broken", 0, "s", {})
    with monkeypatch.context() as killed:
        killed.setattr(HeadBatches, "indices", stop)
        with pytest.raises(Halt):
            make_probe(words, tmp_path, **settings).run(broken)
    drawn = []
    monkeypatch.setattr(
        HeadBatches, "indices", lambda batches, number: drawn.append(number) or indices(batches, number)
    )
    resumed = make_probe(words, tmp_path, **settings).run(broken)
    assert drawn[0] == 8  # only the refit goes on, after its last checkpoint
    for name, value in whole.head.state_dict().items():
        assert torch.equal(resumed.head.state_dict()[name], value), name
    assert resumed.selection == whole.selection
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize("standardize", [False, True])
def test_the_exported_head_does_on_frames_what_was_tested(
    words: Corpus, toys: dict, tmp_path: Path, standardize: bool
) -> None:
    probe = make_probe(words, tmp_path, standardize, pooling="mean_std", projection_size=0)
    probe.cache.fill(words, words.table("test"), frames=True)
    found = probe.run(NOWHERE)
    assert found.head.probe.head.classifier.weight.shape == (3, 20)
    states, lengths = probe.cache.frames(words, words.table("test")).batch(range(24))
    best = [probe.task.classes[i] for i in found.head(states, lengths)[0].argmax(dim=-1).tolist()]
    assert best == [record["hypothesis"] for record in found.scored.records]
    assert found.metrics["acc"] > 80


@pytest.mark.parametrize(("pooling", "solved"), [("mean", False), ("mean_std", True)])
def test_deviations_tell_what_means_cannot(
    words: Corpus, toys: dict, tmp_path: Path, pooling: str, solved: bool
) -> None:
    probe = make_probe(words, tmp_path, pooling=pooling)

    def features(corpus: Corpus, table: Any, frames: bool, pooling: str) -> torch.Tensor:
        number = torch.tensor([probe.task.index[name] for name in table.column("keyword")])
        means = torch.zeros(len(number), 3, 10)
        deviations = nn.functional.one_hot(number, 10).float()[:, None].expand(-1, 3, -1)
        return means if pooling == "mean" else torch.cat([means, deviations], dim=-1)

    probe.cache.features = features
    assert (probe.run(NOWHERE).metrics["acc"] == 100.0) is solved


def test_rows_name_the_pooling_and_the_refit(words: Corpus, toys: dict, tmp_path: Path) -> None:
    rows = [
        run("toy", "aec", words.path, tmp_path, label="keyword", task={"pooling": pooling, "refit": refit})[0]
        for pooling, refit in (("mean", False), ("mean_std", True))
    ]
    assert [row["protocol"] for row in rows] == ["base+label=keyword", "base+mean_std+label=keyword"]
    assert [row["refit"] for row in rows] == [False, True]
    assert len(read_lines(tmp_path / "results.jsonl")) == 2
    assert toys["toy"].encoded == []  # the second pooling needs no pass of its own
    assert rows[1]["utterances"] == {"train": 60, "dev": 24, "test": 24}
    assert (tmp_path / rows[1]["run"] / "refit" / "config.yaml").is_file()
    assert not list(tmp_path.rglob("checkpoints"))


def test_several_events_at_once(chords: Corpus, toys: dict, tmp_path: Path) -> None:
    rows = run(["toy", "other"], "aec", chords.path, tmp_path)
    row = rows[0]
    assert (row["main_metric"], row["mode"], row["resamples"]) == ("map", "max", 5000)
    assert row["metrics"]["map"] > 90
    assert row["metrics"]["classes"] == 3
    assert set(row["metrics"]) == {"map", "auc", "d_prime", "classes", "classes_without_positives"}
    assert row["ci95"][0] <= row["metrics"]["map"] <= row["ci95"][1]
    assert row["dev"] == pytest.approx(row["grid"]["0.1"])
    assert set(row["groups"]["gender"]) == {"female", "male"}
    predictions = read_lines(tmp_path / row["run"] / "predictions.jsonl")
    assert [line["id"] for line in predictions] == chords.table("test").ids
    assert [line["reference"] for line in predictions] == chords.table("test").column("labels")
    report = compare([tmp_path], ["other"], None, seed=0)
    ours = next(entry for entry in report["columns"][0]["systems"] if entry["upstream"] == "toy")
    assert ours["mean"] == pytest.approx(row["metrics"]["map"])
    assert ours["differences"]["other"]["difference"] == pytest.approx(
        row["metrics"]["map"] - rows[1]["metrics"]["map"]
    )
    assert "MAP ↑" in (tmp_path / "results.md").read_text()
