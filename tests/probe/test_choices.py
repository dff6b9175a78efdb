"""What a task decides beside the learning rate: dev selects by which metric, choices on dev, what test selects."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.aec.task import AudioEventClassification
from speechssl.interfaces import Examples, LayerwiseTask
from speechssl.metrics.accuracy import Accuracy
from speechssl.probe import encoders
from speechssl.probe.checkpoints import KeptHeads
from speechssl.probe.layerwise import Layerwise
from speechssl.probe.outcome import Place
from speechssl.probe.train import HeadSettings, Probe

NOWHERE = Place(None, 0, "settings", {})


class Shifted(Accuracy):
    """Accuracy of class scores to which an offset was added; knows a second metric that runs the other way."""

    def __init__(self, classes: list[str], offset: float = 0.0):
        super().__init__(classes)
        self.offset = offset

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        shifted = outputs.clone()
        shifted[:, 0] += self.offset
        super().update(shifted, lengths, labels, ids)

    def compute(self) -> dict[str, float]:
        found = super().compute()
        return found | {"error": 100.0 - found["acc"]}


class Choosy(AudioEventClassification):
    selector = ("error", "min")
    test_selected = 3
    offsets = (0.0, -100.0, 100.0)

    def metric(self, offset: float = 0.0) -> Shifted:
        self.asked = [*getattr(self, "asked", []), offset]
        return Shifted(self.classes, offset)

    def tune(self, metric: Shifted) -> dict[str, Any]:
        return {"offset": -100.0}


def probe(corpus: Corpus, folder: Path, **settings: Any) -> Probe:
    encoding = encoders.EncodingSettings("cpu", folder / "cache", "float32", 20.0, 0)
    given = {"steps": 40, "batch_size": 16, "eval_every": 10, "lrs": [1e-1, 1e-3], "label": "keyword"} | settings
    cache = encoders.Encoder("toy", encoding, {}).on(corpus)[0]
    return Probe(Choosy(corpus, refit=False, **given), corpus, cache, HeadSettings())


def test_dev_selects_by_the_selector_and_its_choices_hold_on_test(words: Corpus, toys: dict, tmp_path: Path) -> None:
    made = probe(words, tmp_path)
    found = made.run(NOWHERE)
    assert found.selection.metric == "error"
    assert found.selection.dev == min(found.selection.grid.values())
    assert found.notes["choices"] == {"offset": -100.0}
    assert "low" not in {record["hypothesis"] for record in found.scored.records} or made.task.classes[0] != "low"
    assert made.task.classes[0] not in {record["hypothesis"] for record in found.scored.records}
    assert made.task.asked[-4:] == [-100.0] * 4  # the honest number, then three checkpoints


def test_the_best_checkpoint_on_test_stands_beside_the_honest_number(words: Corpus, toys: dict, tmp_path: Path) -> None:
    for folder in (None, tmp_path / "run"):
        place = Place(folder, 0, "settings", {})
        found = probe(words, tmp_path).run(place)
        assert found.metrics["acc_test_selected"] >= found.metrics["acc"] - 1e-9
    kept = sorted(path.name for path in (tmp_path / "run" / "kept").glob("*"))
    assert kept == ["step-00000020.safetensors", "step-00000030.safetensors", "step-00000040.safetensors"]


def test_kept_heads_are_those_of_their_steps(tmp_path: Path) -> None:
    heads = torch.nn.ModuleList([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
    for folder in (None, tmp_path):
        kept = KeptHeads(folder, 2, steps=100, eval_every=20)
        assert kept.steps == {60, 100}
        for step in range(20, 101, 20):
            for number, head in enumerate(heads):
                torch.nn.init.constant_(head.weight, step + number)
            kept.keep(step, heads)
        assert [float(head.weight.detach()[0, 0]) for head in kept.heads(heads[1], "1.")] == [61.0, 101.0]
    assert KeptHeads(None, 0, 100, 20).steps == set()


class Loudest(LayerwiseTask):
    """Says which keyword an utterance has by the loudest channel of a hidden state."""

    name, monitor, mode = "loudest", "acc", "max"

    def __init__(self, corpus: Corpus):
        self.corpus = corpus

    def dataset(self, split: str) -> Examples:
        table = self.corpus.table(split)
        names = table.column("keyword")
        return Examples(table, {"class": [sorted(set(names)).index(n) for n in names], "reference": names})

    def measure(self, examples: Examples, states: Any, layers: Any) -> list[Accuracy]:
        found = []
        for layer in layers:
            metric = Accuracy(["high", "low", "middle"])
            means = torch.stack([frames.mean(dim=0) for frames in states(layer)])
            assert means.dtype == torch.float32
            scores = torch.stack([means[:, 4:].amax(dim=1), means[:, 0], means[:, 1:3].amax(dim=1)], dim=1)
            metric.update(scores, torch.ones(len(means)), examples.labels, list(examples.cuts.ids))
            found.append(metric)
        return found


def test_a_layer_is_chosen_on_dev_and_only_that_one_is_measured_on_test(
    words: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding = encoders.EncodingSettings("cpu", tmp_path / "cache", "float16", 20.0, 0)
    cache = encoders.Encoder("toy", encoding, {}).on(words)[0]
    task, asked, measure = Loudest(words), [], Loudest.measure
    monkeypatch.setattr(
        Loudest, "measure", lambda t, e, s, layers: asked.append(list(layers)) or measure(t, e, s, layers)
    )
    found = Layerwise(task, words, cache, "cpu").run(NOWHERE)
    best = int(np.argmax(list(found.selection.grid.values())))
    assert asked == [[0, 1, 2], [best]]
    assert found.selection.layer_weights == [float(i == best) for i in range(3)]
    assert found.head is None
    assert found.selection.lr is None
    assert found.notes == {"layer": best}
    assert [record["id"] for record in found.scored.records] == list(words.table("test").ids)
    assert all(record["speaker"] for record in found.scored.records)
