"""Intents: several slots per utterance, of which all have to be right."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from speechssl.downstream.ic.task import IntentClassification
from speechssl.errors import UserError

Make = Callable[..., Any]


def intent(action: str, place: str) -> dict[str, str]:
    return {"place": place, "action": action}


TRAIN = {"intent": [intent("on", "hall"), intent("off", "hall"), None, intent("on", "none"), intent("on", "hall")]}


def test_slots_and_their_values(make_corpus: Make) -> None:
    task = IntentClassification(make_corpus(TRAIN))
    task.check()
    assert task.slots == {"action": ["off", "on"], "place": ["hall", "none"]}
    assert task.classes == ["action=off", "action=on", "place=hall", "place=none"]
    train = task.dataset("train")
    assert train.labels["class"] == [[1, 0], [0, 0], [1, 1], [1, 0]]
    assert train.labels["reference"][0] == {"action": "on", "place": "hall"}
    assert len(train.cuts) == 4


def test_two_of_three_slots_are_not_right(make_corpus: Make) -> None:
    slots = [{"a": "1", "b": "1", "c": "1"}, {"a": "2", "b": "2", "c": "2"}]
    task = IntentClassification(make_corpus({"intent": slots}))
    metric, labels = task.metric(), task.dataset("test").labels
    metric.update(torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1.0, 0, 1, 1, 0]]), torch.ones(2), labels, ["u", "v"])
    assert metric.compute() == {"acc": 50.0, "acc_a": 100.0, "acc_b": 100.0, "acc_c": 50.0}


def test_the_loss_is_the_sum_over_slots(make_corpus: Make) -> None:
    task = IntentClassification(make_corpus(TRAIN))
    logits = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    first, second = logits[:, :2].log_softmax(-1), logits[:, 2:].log_softmax(-1)
    expected = -(first[0, 1] + first[1, 0]) / 2 - (second[0, 1] + second[1, 0]) / 2
    torch.testing.assert_close(task.loss(logits, torch.ones(2), {"class": [[1, 1], [0, 0]]})["loss"], expected)
    loss = task.loss(logits, torch.ones(2), {"class": torch.tensor([[1, -1], [0, 0]])})["loss"]
    torch.testing.assert_close(loss, -(first[0, 1] + first[1, 0]) / 2 - second[1, 0])


def test_published_head_size(make_corpus: Make) -> None:
    slots = [{"action": f"a{n % 6}", "object": f"o{n}", "location": f"l{n % 4}"} for n in range(14)]
    head = IntentClassification(make_corpus({"intent": slots})).head(768, 320)
    assert sum(p.numel() for p in head.parameters()) == 203_032


def test_chance_is_the_most_frequent_combination(make_corpus: Make) -> None:
    test = {"intent": [intent("on", "hall"), intent("on", "none"), intent("off", "hall"), intent("on", "none")]}
    assert IntentClassification(make_corpus(TRAIN, test=test)).chance() == 25.0


def test_an_intent_may_be_one_name(make_corpus: Make) -> None:
    task = IntentClassification(make_corpus({"intent": ["play", "stop"]}))
    assert task.slots == {"intent": ["play", "stop"]}
    assert task.sample_weights(task.dataset("train")) is None
    metric, labels = task.metric(), task.dataset("test").labels
    metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(2), labels, ["u", "v"])
    assert metric.compute() == {"acc": 50.0}


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([intent("on", "hall"), {"action": "on"}], "same slots everywhere"),
        ([intent("on", "hall"), "on"], "same slots everywhere .here place, action"),
        ([intent("on", "hall"), 3], "has 3"),
        ([{"a=b": "1"}, {"a=b": "2"}], "same slots everywhere"),
        ([None, None], "at least two classes"),
    ],
)
def test_other_intents_are_refused(make_corpus: Make, column: list, message: str) -> None:
    with pytest.raises(UserError, match=message):
        IntentClassification(make_corpus({"intent": column}))


def test_values_that_train_lacks_are_named(make_corpus: Make) -> None:
    task = IntentClassification(make_corpus(TRAIN, test={"intent": [intent("on", "attic"), intent("off", "hall")]}))
    with pytest.raises(UserError, match=r"test of made-up has 1 more in 1 utterances .*place=attic"):
        task.check()
    assert task.dataset("test").labels["class"] == [[1, -1], [0, 0]]


def test_slots_whose_names_begin_alike_keep_their_own_values(make_corpus: Callable[..., Any]) -> None:
    """`object2=x` sorts before `object=x`, the slot `object` before `object2`."""
    values = [{"object": a, "object2": b} for a in ("x", "y", "z") for b in ("p", "q")]
    task = IntentClassification(make_corpus({"intent": values}))
    assert task.slots == {"object": ["x", "y", "z"], "object2": ["p", "q"]}
    assert task.classes == ["object=x", "object=y", "object=z", "object2=p", "object2=q"]
    examples = task.dataset("test")
    outputs = torch.zeros(6, 5)
    for row, (first, second) in enumerate(examples.labels["class"]):
        outputs[row, first] = outputs[row, 3 + second] = 50.0
    assert float(task.loss(outputs, torch.ones(6), examples.labels)["loss"]) < 1e-6
    metric = task.metric()
    metric.update(outputs, torch.ones(6), examples.labels, list("abcdef"))
    assert metric.compute()["acc"] == 100.0
