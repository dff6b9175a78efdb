"""Macro F1 and recall against scikit-learn, weighted and rebuilt from records."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, recall_score

from speechssl.metrics.class_scores import ClassScores, MacroF1, from_records

CLASSES = ["negative", "neutral", "positive"]


def fill(metric: ClassScores, seed: int = 0, size: int = 40) -> tuple[list[str], list[str]]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, 3, generator=generator) + torch.tensor([0.0, 1.0, 0.3])
    references = [CLASSES[n] for n in torch.randint(0, 3, (size,), generator=generator).tolist()]
    metric.update(scores, torch.ones(size), {"reference": references}, [str(i) for i in range(size)])
    return references, [CLASSES[n] for n in scores.argmax(-1).tolist()]


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn(seed: int) -> None:
    metric = ClassScores(CLASSES)
    said, found = fill(metric, seed)
    assert metric.compute() == {
        "acc": pytest.approx(100 * accuracy_score(said, found)),
        "macro_f1": pytest.approx(100 * f1_score(said, found, average="macro")),
        "macro_recall": pytest.approx(100 * recall_score(said, found, average="macro")),
    }


def test_weights_equal_repeated_utterances_also_from_records() -> None:
    metric = MacroF1(CLASSES)
    said, found = (np.array(names) for names in fill(metric))
    weights = np.random.default_rng(0).integers(0, 3, (5, 40))
    weights[0] = said == "neutral"  # the others are then never said, but some may be found
    rebuilt = from_records(json.loads(json.dumps(metric.records())))
    for row, value in zip(weights, metric.main(weights), strict=True):
        once = f1_score(np.repeat(said, row), np.repeat(found, row), average="macro", zero_division=0)
        assert value == pytest.approx(100 * once)
    np.testing.assert_array_equal(metric.main(weights), rebuilt.main(weights))
    assert metric.main(np.ones((1, 40)))[0] == pytest.approx(metric.compute()["macro_f1"])
    assert np.isnan(metric.main(np.zeros((1, 40)))[0])
    assert rebuilt.cells == 3 * 40 * 3


def test_a_class_that_is_never_found_counts_and_one_that_is_nowhere_does_not() -> None:
    metric = MacroF1(CLASSES)
    metric.update(torch.eye(3)[[1, 1]], torch.ones(2), {"reference": ["neutral", "negative"]}, ["a", "b"])
    assert metric.compute() == {"acc": 50.0, "macro_f1": pytest.approx(100 / 3), "macro_recall": 50.0}


def test_a_class_that_training_never_saw_counts() -> None:
    metric = ClassScores(["a", "b"])
    metric.update(torch.eye(2), torch.ones(2), {"reference": ["a", "z"]}, ["u", "v"])
    assert metric.compute()["macro_f1"] == pytest.approx(100 / 3)
    assert np.isnan(ClassScores(["a"]).compute()["macro_f1"])
