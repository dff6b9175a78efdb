"""Keyword spotting and speaker identification: what they share, and where they differ."""

from types import SimpleNamespace

import pytest
import torch

from speechssl import configs
from speechssl.downstream.ks.task import KeywordSpotting
from speechssl.downstream.sid.task import SpeakerIdentification
from speechssl.errors import UserError


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, **columns: list):
        self.columns = columns
        self.ids = columns["ids"]

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> list:
        return self.columns.get(name, [None] * len(self))

    def select(self, indices: list[int]) -> "Table":
        return Table(**{name: [values[i] for i in indices] for name, values in self.columns.items()})


def corpus(**splits: Table) -> SimpleNamespace:
    return SimpleNamespace(name="made-up", table=splits.__getitem__)


def words(train: list[str | None], test: list[str | None], column: str = "keyword") -> SimpleNamespace:
    tables = {
        split: Table(ids=[f"{split}{i}" for i in range(len(names))], **{column: names})
        for split, names in (("train", train), ("test", test))
    }
    return corpus(**tables)


def test_classes_are_those_of_train_in_sorted_order() -> None:
    task = KeywordSpotting(words(["yes", "no", None, "yes"], ["no", "never heard", None]))
    assert task.classes == ["no", "yes"]
    train, test = task.dataset("train"), task.dataset("test")
    assert train.cuts.ids == ["train0", "train1", "train3"]
    assert train.labels == {"class": [1, 0, 1], "reference": ["yes", "no", "yes"]}
    assert test.labels == {"class": [0, -1], "reference": ["no", "never heard"]}


def test_unheard_classes_count_as_errors() -> None:
    task = KeywordSpotting(words(["yes", "no"], ["no", "never heard"]))
    examples, metric = task.dataset("test"), task.metric()
    metric.update(torch.tensor([[9.0, 0.0], [9.0, 0.0]]), torch.ones(2), examples.labels, examples.cuts.ids)
    assert metric.compute() == {"acc": 50.0}


def test_the_label_column_can_be_chosen() -> None:
    source = words(["a", "b"], ["a"], column="digit")
    with pytest.raises(UserError, match="label=COLUMN"):
        KeywordSpotting(source)
    assert KeywordSpotting(source, label="digit").classes == ["a", "b"]


def test_uneven_classes_are_balanced_and_even_ones_are_not() -> None:
    uneven, even = words(["a"] * 5 + ["b"] * 2, ["a"]), words(["a"] * 3 + ["b"] * 2, ["a"])
    task = KeywordSpotting(uneven)
    assert task.sample_weights(task.dataset("train")) == [1 / 5] * 5 + [1 / 2] * 2
    task = KeywordSpotting(even)
    assert task.sample_weights(task.dataset("train")) is None
    task = KeywordSpotting(even, balance=True)
    assert task.sample_weights(task.dataset("train")) == [1 / 3] * 3 + [1 / 2] * 2
    task = KeywordSpotting(uneven, balance=False)
    assert task.sample_weights(task.dataset("train")) is None


def test_speakers_are_drawn_as_they_come() -> None:
    task = SpeakerIdentification(words(["ann"] * 9 + ["bob"], ["ann"], column="speaker"))
    assert task.classes == ["ann", "bob"]
    assert task.sample_weights(task.dataset("train")) is None


def test_loss_is_cross_entropy() -> None:
    task = KeywordSpotting(words(["a", "b", "c"], ["a"]))
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    expected = -logits.log_softmax(-1)[range(4), [0, 2, 1, 1]].mean()
    torch.testing.assert_close(task.loss(logits, torch.ones(4), {"class": [0, 2, 1, 1]})["loss"], expected)


@pytest.mark.parametrize(("cls", "column"), [(KeywordSpotting, "keyword"), (SpeakerIdentification, "speaker")])
def test_head_size(cls: type, column: str) -> None:
    head = cls(words(["a", "b", "c"], ["a"], column)).head(768, 320)
    assert sum(p.numel() for p in head.parameters()) == 768 * 256 + 256 + 256 * 3 + 3
    assert cls.pooled


@pytest.mark.parametrize(("cls", "column"), [(KeywordSpotting, "keyword"), (SpeakerIdentification, "speaker")])
def test_other_poolings_and_heads(cls: type, column: str) -> None:
    task = cls(words(["a", "b", "c"], ["a"], column), pooling="mean_std", projection_size=0)
    assert sum(p.numel() for p in task.head(768, 320).parameters()) == 2 * 768 * 3 + 3
    with pytest.raises(UserError, match="mean or mean_std"):
        cls(words(["a", "b", "c"], ["a"], column), pooling="median")


def test_all_words_of_speech_commands_are_shuffled_as_they_are() -> None:
    name, settings = configs.load("downstream", "ks/speech_commands_35")
    assert (name, settings) == ("ks", {"balance": False})
