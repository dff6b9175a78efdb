"""Audio event classification: which labels it finds, and what it does with one or several per clip."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechssl.downstream.aec.task import AudioEventClassification
from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask
from speechssl.nn.classification import multi_hot


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, **columns: list):
        self.values = columns
        self.columns = sorted(columns)
        self.size = len(next(iter(columns.values())))

    def column(self, name: str) -> list:
        return self.values.get(name, [None] * self.size)

    def select(self, indices: list[int]) -> "Table":
        return Table(**{name: [values[i] for i in indices] for name, values in self.values.items()})


def corpus(train: list, test: list, column: str = "label", fold: str = "") -> SimpleNamespace:
    tables = {"train": Table(**{column: train}), "test": Table(**{column: test})}
    return SimpleNamespace(name="made-up", fold=fold, splits=list(tables), table=tables.__getitem__)


SINGLE = corpus(["dog", "rain", None, "dog"], ["rain", "sea"])
SEVERAL = corpus([["dog", "rain"], ["rain"], [], None, ["dog", "dog"]], [["sea", "dog"], ["sea"]], "labels")


def test_one_event_per_clip() -> None:
    task = AudioEventClassification(SINGLE)
    assert (task.classes, task.monitor, task.mode, task.multi_label) == (["dog", "rain"], "acc", "max", False)
    assert task.dataset("train").labels == {"class": [0, 1, 0], "reference": ["dog", "rain", "dog"]}
    assert task.dataset("test").labels["class"] == [1, -1]
    metric = task.metric()
    metric.update(torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.ones(2), task.dataset("test").labels, ["a", "b"])
    assert metric.compute() == {"acc": 50.0}


def test_several_events_per_clip() -> None:
    task = AudioEventClassification(SEVERAL)
    assert (task.classes, task.monitor, task.mode, task.multi_label) == (["dog", "rain"], "map", "max", True)
    train, test = task.dataset("train"), task.dataset("test")
    assert train.labels["classes"] == [[0, 1], [1], [], [0]]
    assert train.labels["reference"] == [["dog", "rain"], ["rain"], [], ["dog", "dog"]]
    assert test.labels["classes"] == [[0], []]
    metric = task.metric()
    metric.update(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.ones(2), test.labels, ["a", "b"])
    found = metric.compute()
    assert (found["map"], found["classes"], found["classes_without_positives"]) == (50.0, 1, 1)
    assert AudioEventClassification.monitor == "acc"


def test_chance_does_not_listen() -> None:
    assert AudioEventClassification(corpus(["a", "a", "b"], ["a", "b", "b", "b"])).chance() == 25.0
    task = AudioEventClassification(corpus([["a", "b"], ["a"]], [["a"], ["b"], ["b", "c"], []], "labels"))
    assert task.chance() == pytest.approx(100 * (1 / 4 + 2 / 4) / 2)  # equal scores: the share of a class's positives
    assert task.unseen == "count"


def test_losses() -> None:
    logits = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    task = AudioEventClassification(SEVERAL)
    target = multi_hot(task.dataset("train").labels["classes"], 2)
    assert target.tolist() == [[1, 1], [0, 1], [0, 0], [1, 0]]
    expected = -(target * logits.sigmoid().log() + (1 - target) * (1 - logits.sigmoid()).log()).mean()
    found = task.loss(logits, torch.ones(4), {"classes": [[0, 1], [1], [], [0]]})["loss"]
    torch.testing.assert_close(found, expected)
    found = AudioEventClassification(SINGLE).loss(logits, torch.ones(4), {"class": [0, 1, 1, -1]})["loss"]
    torch.testing.assert_close(found, -logits.log_softmax(-1)[range(3), [0, 1, 1]].mean())


def test_classes_are_drawn_evenly_where_asked_for() -> None:
    task = AudioEventClassification(SEVERAL, balance=True)
    assert task.sample_weights(task.dataset("train")) == [1 / 2 + 1 / 2, 1 / 2, 0, 1 / 2]
    task = AudioEventClassification(SEVERAL)
    assert task.sample_weights(task.dataset("train")) is None
    task = AudioEventClassification(corpus(["a"] * 5 + ["b"] * 2, ["a"]))
    assert task.sample_weights(task.dataset("train")) == [1 / 5] * 5 + [1 / 2] * 2


def test_given_folds_are_trained_anew_on_train_and_dev() -> None:
    assert DownstreamTask.refit is False
    assert AudioEventClassification(SINGLE).refit is False
    folded = corpus(["dog", "rain"], ["dog"], fold="fold1")
    assert AudioEventClassification(folded).refit is True
    assert AudioEventClassification(folded, refit=False).refit is False
    assert AudioEventClassification(SINGLE, refit=True).refit is True


@pytest.mark.parametrize(("pooling", "projection_size", "parameters"), [("mean", 256, 197_378), ("mean_std", 0, 3074)])
def test_heads(pooling: str, projection_size: int, parameters: int) -> None:
    task = AudioEventClassification(SINGLE, pooling=pooling, projection_size=projection_size)
    assert sum(p.numel() for p in task.head(768, 160).parameters()) == parameters
    assert task.pooled


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (SINGLE, {"label": "category"}, "at least two classes in the column 'category'"),
        (SINGLE, {"label": "label", "multi_label": True}, "expects lists of labels in the column 'label' of made-up"),
        (SEVERAL, {"label": "labels", "multi_label": False}, "expects single labels in the column 'labels'"),
        (SEVERAL, {"multi_label": False}, "at least two classes in the column 'label'"),
        (SINGLE, {"multi_label": True}, "at least two classes in the column 'labels'"),
        (SINGLE, {"pooling": "max"}, "mean or mean_std"),
        (corpus([["a"], "b", ["c"]], [], "labels"), {}, "expects lists of labels .* found 'b'"),
        (corpus([["a"], ["b"]], ["ab"], "labels"), {}, "expects lists of labels .* found 'ab'"),
    ],
)
def test_wrong_settings_are_one_clear_line(source: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AudioEventClassification(source, **settings)


def test_a_test_split_without_known_events_is_refused() -> None:
    with pytest.raises(UserError, match="no clip in test of made-up has an event"):
        AudioEventClassification(corpus([["a"], ["b"]], [["c"], []], "labels")).dataset("test")


def test_other_columns_may_hold_lists() -> None:
    task = AudioEventClassification(corpus([["a", "b"], ["b"]], [["a"]], "sounds"), label="sounds")
    assert task.multi_label
    assert np.sum(multi_hot(task.dataset("train").labels["classes"], 2).numpy()) == 3
