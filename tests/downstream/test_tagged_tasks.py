"""Slot filling and named entities: what they share, their scores, and checks before the work."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechssl.downstream.ner.task import NamedEntities
from speechssl.downstream.sf.task import SlotFilling
from speechssl.errors import UserError

Make = Callable[..., Any]
TEXTS = ["fly to New York", "wake me at six", "stop"]
SPANS = [[["city", 2, 4]], [["time", 3, 4]], []]
TASKS = [(SlotFilling, "slots", "slot_type_f1"), (NamedEntities, "entities", "f1")]


@pytest.mark.parametrize(("cls", "column", "monitor"), TASKS)
def test_targets_metric_and_direction(make_corpus: Make, cls: type, column: str, monitor: str) -> None:
    task = cls(make_corpus({"text": [*TEXTS, "no slots known"], column: [*SPANS, None]}))
    task.check()
    assert (task.monitor, task.mode, task.names, task.num_symbols) == (monitor, "max", ["city", "time"], 35)
    examples = task.dataset("test")
    assert "".join(examples.labels["reference"][0]) == "FLY TO B-cityNEW YORKE-city"
    tokens = examples.labels["tokens"]
    assert [len(row) for row in tokens] == [18, 17, 5]
    metric, outputs = task.metric(), perfect(tokens, task.num_symbols)
    metric.update(outputs, torch.tensor([2 * len(row) for row in tokens]), examples.labels, examples.cuts.ids)
    assert metric.compute()[monitor] == 100.0
    assert metric.records()[0]["reference"] == metric.records()[0]["hypothesis"] == "FLY TO B-city NEW YORK E-city"


def perfect(tokens: list[torch.Tensor], size: int) -> torch.Tensor:
    """Return scores (B, T, V) of paths with a blank before every symbol."""
    paths = [torch.stack([torch.zeros_like(row), row], dim=1).flatten() for row in tokens]
    return torch.nn.functional.one_hot(torch.nn.utils.rnn.pad_sequence(paths, batch_first=True), size).float()


def test_loss_is_finite_and_tells_what_is_too_short(make_corpus: Make) -> None:
    task = SlotFilling(make_corpus({"text": TEXTS, "slots": SPANS}))
    tokens = task.dataset("train").labels["tokens"]
    found = task.loss(torch.zeros(3, 20, task.num_symbols), torch.tensor([20, 16, 20]), {"tokens": tokens})
    assert bool(found["loss"].isfinite())
    assert float(found["too_short"]) == pytest.approx(1 / 3)


def test_published_number_of_classes_and_head_size(make_corpus: Make) -> None:
    spans = [[[f"slot{n}", 0, 1]] for n in range(39)]
    with torch.device("meta"):
        head = SlotFilling(make_corpus({"text": ["a"] * 39, "slots": spans})).head(768, 320)
    assert head.classifier.out_features == 109
    assert sum(p.numel() for p in head.parameters()) == 42_828_832 + (109 - 32) * 2049
    assert head.augment is not None


def test_chance_is_the_best_constant_answer_of_train(make_corpus: Make) -> None:
    train = {"text": ["a b"] * 4, "slots": [[["x", 0, 1], ["y", 1, 2]], [["x", 0, 1]], [["x", 1, 2]], []]}
    test = {"text": ["a b"] * 2, "slots": [[["x", 0, 1], ["y", 1, 2]], []]}
    assert SlotFilling(make_corpus(train, test=test)).chance() == pytest.approx(100 * (2 / 3 + 0) / 2)
    train = {"text": ["a b"] * 4, "entities": train["slots"]}
    test = {"text": ["a b"] * 2, "entities": test["slots"]}
    assert NamedEntities(make_corpus(train, test=test)).chance() == pytest.approx(100 * 2 * 1 / (2 + 2))


@pytest.mark.parametrize(("cls", "column", "monitor"), TASKS)
def test_names_that_train_lacks(make_corpus: Make, cls: type, column: str, monitor: str) -> None:
    source = make_corpus({"text": TEXTS, column: SPANS}, test={"text": ["in May"], column: [[["date", 1, 2]]]})
    with pytest.raises(UserError, match=r"test of made-up has 1 more .date.*task\.unseen=count"):
        cls(source).check()
    task = cls(source, unseen="count")
    task.check()
    assert task.encode(task.dataset("test").labels["reference"][0]).tolist().count(task.unknown) == 2
    with pytest.raises(UserError, match="refuse or count"):
        cls(source, unseen="no")


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([["city", 2, 5]], "within the 'text'"),
        ([["city", 3, 3]], "within the 'text'"),
        ([["city", -1, 1]], "within the 'text'"),
        ([["city", 0.0, 1]], "within the 'text'"),
        ([["", 0, 1]], "within the 'text'"),
        (["city"], "within the 'text'"),
        ("city", "expects lists"),
        ([["city", 0, 2], ["time", 1, 3]], "do not overlap"),
        ([], "found no spans in the column 'slots' of train"),
    ],
)
def test_wrong_spans_are_one_clear_line(make_corpus: Make, spans: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        SlotFilling(make_corpus({"text": TEXTS[:1], "slots": [spans]}))
    assert "\n" not in str(error.value)


def test_only_text_of_the_language_is_taken(make_corpus: Make) -> None:
    columns = {"text": TEXTS, "slots": SPANS, "language": ["en-GB", "de", None]}
    assert SlotFilling(make_corpus(columns)).names == ["city"]
    assert SlotFilling(make_corpus(columns), language=None).names == ["city", "time"]
