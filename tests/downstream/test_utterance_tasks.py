"""Emotion, language, sentiment and plain classification: sizes, checks before the work, chance."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score

from speechssl.downstream.classify.task import Classification
from speechssl.downstream.er.task import EmotionRecognition
from speechssl.downstream.ks.task import KeywordSpotting
from speechssl.downstream.lid.task import LanguageIdentification
from speechssl.downstream.sentiment.task import SentimentAnalysis
from speechssl.downstream.sid.task import SpeakerIdentification
from speechssl.errors import UserError

Make = Callable[..., Any]
TASKS = [
    (EmotionRecognition, "emotion", "acc"),
    (LanguageIdentification, "language", "acc"),
    (SentimentAnalysis, "sentiment", "macro_f1"),
    (Classification, "label", "acc"),
    (KeywordSpotting, "keyword", "acc"),
    (SpeakerIdentification, "speaker", "acc"),
]


@pytest.mark.parametrize(("cls", "column", "monitor"), TASKS)
def test_labels_heads_and_metrics(make_corpus: Make, cls: type, column: str, monitor: str) -> None:
    task = cls(make_corpus({column: ["b", "a", None, "b", "c", "d"]}))
    task.check()
    assert (task.classes, task.monitor, task.mode, task.pooled) == (["a", "b", "c", "d"], monitor, "max", True)
    assert sum(p.numel() for p in task.head(768, 320).parameters()) == 197_892  # SUPERB's four emotions
    examples, metric = task.dataset("test"), task.metric()
    assert examples.labels["class"] == [1, 0, 1, 2, 3]
    metric.update(torch.eye(4)[[1, 0, 1, 2, 0]], torch.ones(5), examples.labels, examples.cuts.ids)
    assert metric.compute()["acc"] == 80.0
    assert monitor in metric.compute()


@pytest.mark.parametrize(("cls", "column", "monitor"), TASKS)
def test_classes_that_train_lacks_are_named_before_the_work(
    make_corpus: Make, cls: type, column: str, monitor: str
) -> None:
    test = {column: ["a", "z", "z", "y", "x", "w"]}
    task = cls(make_corpus({column: ["a", "b"]}, test=test))
    with pytest.raises(UserError, match=r"test of made-up has 4 more in 5 utterances .*: w, x, y, \.\.\.\)") as error:
        task.check()
    assert "\n" not in str(error.value)
    assert task.dataset("test").labels["class"] == [0, -1, -1, -1, -1, -1]


def test_an_utterance_of_a_class_without_a_name_is_refused(make_corpus: Make) -> None:
    with pytest.raises(UserError, match="in train of made-up whose 'label' is empty"):
        Classification(make_corpus({"label": ["a", "b", " "]})).check()
    with pytest.raises(UserError, match="no utterance in test of made-up has a value"):
        Classification(make_corpus({"label": ["a", "b"]}, test={"label": [None]})).check()


def test_unseen_classes_can_be_counted_as_errors(make_corpus: Make) -> None:
    corpus = make_corpus({"label": ["a", "b"]}, test={"label": ["a", "z"]})
    with pytest.raises(UserError, match=r"task\.unseen=count"):
        Classification(corpus).check()
    task = Classification(corpus, unseen="count")
    task.check()
    metric, examples = task.metric(), task.dataset("test")
    metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(2), examples.labels, examples.cuts.ids)
    assert metric.compute()["acc"] == 50.0
    with pytest.raises(UserError, match="refuse or count, found 'ignore'"):
        Classification(corpus, unseen="ignore")


def test_chance_is_the_share_on_test_of_the_most_frequent_class_of_train(make_corpus: Make) -> None:
    task = Classification(make_corpus({"label": ["a", "a", "b"]}, test={"label": ["b", "b", "b", "a"]}))
    assert task.chance() == 25.0
    task = Classification(make_corpus({"label": ["a", "b"]}, test={"label": ["b", "b", "b", "a"]}))
    assert task.chance() == 75.0


def test_chance_of_macro_f1(make_corpus: Make) -> None:
    test = ["a", "b", "b", "c", "a", "a", "a"]
    task = SentimentAnalysis(make_corpus({"sentiment": ["a", "a", "b", "c"]}, test={"sentiment": test}))
    assert task.chance() == pytest.approx(100 * f1_score(test, ["a"] * 7, average="macro"))


def test_any_column_can_be_classified(make_corpus: Make) -> None:
    assert Classification(make_corpus({"gender": ["m", "f"]}), label="gender").classes == ["f", "m"]
    with pytest.raises(UserError, match="label=COLUMN"):
        Classification(make_corpus({"gender": ["m", "f"]}))
