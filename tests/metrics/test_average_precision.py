"""Average precision, AUC and d-prime against scikit-learn, and against cases worked out by hand."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from speechssl.metrics.average_precision import (
    MeanAveragePrecision,
    RankedScores,
    area_under_curve,
    average_precision,
    d_prime,
    rank,
    ranked,
)


def made_up(size: int, classes: int, ties: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(size, classes))
    positive = generator.random((size, classes)) < np.linspace(0.02, 0.7, classes)
    positive[0] = True
    positive[1] = False
    return (np.round(scores + positive, 1) if ties else scores + positive), positive


def filled(scores: np.ndarray, positive: np.ndarray) -> MeanAveragePrecision:
    """The metric after two batches."""
    classes = [f"c{i}" for i in range(scores.shape[1])]
    metric = MeanAveragePrecision(classes)
    names = [[classes[i] for i in np.flatnonzero(row)] for row in positive]
    ids = [f"u{i}" for i in range(len(scores))]
    for part in (slice(0, 7), slice(7, None)):
        outputs = torch.from_numpy(scores[part])
        metric.update(outputs, torch.ones(len(outputs)), {"reference": names[part]}, ids[part])
    return metric


def test_worked_out_by_hand() -> None:
    # ranks of the positives: 1, 3 and a tie of one positive and one negative on ranks 4 and 5
    scores, positive = np.array([9.0, 8.0, 7.0, 5.0, 5.0, 1.0]), np.array([1, 0, 1, 1, 0, 0], bool)
    ones = np.ones((6, 1))
    assert average_precision(rank(scores, positive), ones) == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])
    assert area_under_curve(rank(scores, positive), ones) == pytest.approx([(3 + 2 + 1.5) / 9])


@pytest.mark.parametrize("ties", [False, True])
def test_equals_scikit_learn(ties: bool) -> None:
    scores, positive = made_up(300, 12, ties)
    found = filled(scores, positive).compute()
    rounded = np.round(scores, 5)
    assert found["map"] == pytest.approx(100 * average_precision_score(positive, rounded, average="macro"), abs=1e-9)
    area = roc_auc_score(positive, rounded, average="macro")
    assert found["auc"] == pytest.approx(100 * area, abs=1e-9)
    assert found["classes"] == 12
    assert found["classes_without_positives"] == 0


@pytest.mark.parametrize("ties", [False, True])
def test_weights_equal_scikit_learn_and_repeated_utterances(ties: bool) -> None:
    scores, positive = made_up(120, 5, ties)
    generator = np.random.default_rng(1)
    real = generator.random((3, 120)) + 0.1
    for number in range(5):
        ranking = rank(scores[:, number], positive[:, number])
        for weights, found, area in zip(
            real, average_precision(ranking, real.T), area_under_curve(ranking, real.T), strict=True
        ):
            pair = (positive[:, number], scores[:, number])
            assert found == pytest.approx(average_precision_score(*pair, sample_weight=weights), abs=1e-12)
            assert area == pytest.approx(roc_auc_score(*pair, sample_weight=weights), abs=1e-12)
    drawn = generator.integers(0, 120, 120)
    counts = np.bincount(drawn, minlength=120)[None]
    expected = filled(scores[drawn], positive[drawn]).compute()["map"]
    assert RankedScores(np.round(scores, 5), positive).main(counts) == pytest.approx([expected], abs=1e-9)


def test_blocks_of_resamples_change_nothing() -> None:
    scores, positive = made_up(40, 4, ties=True)
    weights = np.random.default_rng(0).integers(0, 3, (150, 40))
    whole = RankedScores(scores, positive).main(weights)
    alone = [RankedScores(scores, positive).main(row[None])[0] for row in weights]
    np.testing.assert_allclose(whole, alone, rtol=0, atol=1e-12)


def test_classes_without_positives_are_left_out_and_counted() -> None:
    scores, positive = made_up(50, 4, ties=False)
    expected = filled(scores[:, :3], positive[:, :3]).compute()
    positive[:, 3] = False
    found = filled(scores, positive).compute()
    assert {name: found[name] for name in ("map", "auc", "d_prime")} == {
        name: expected[name] for name in ("map", "auc", "d_prime")
    }
    assert found["classes"] == 3
    assert found["classes_without_positives"] == 1


def test_a_class_that_no_resample_drew_is_left_out_of_that_resample() -> None:
    scores = np.array([[2.0, 1.0], [1.0, 2.0], [0.0, 0.0]])
    positive = np.array([[False, True], [True, False], [False, False]])
    ranked_scores = RankedScores(scores, positive)
    first, both, none = ranked_scores.main(np.array([[1.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 3.0]]))
    assert first == 100.0  # only the second class has its positive, and nothing above it
    assert both == 50.0
    assert np.isnan(none)


def test_labels_that_training_never_saw_are_not_scored() -> None:
    metric = MeanAveragePrecision(["a", "b"])
    labels = {"reference": [["a", "unheard"], ["unheard"], []]}
    metric.update(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.ones(3), labels, ["x", "y", "z"])
    assert metric.compute()["map"] == 100.0
    assert metric.compute()["classes"] == 1
    record = metric.records()[0]
    assert (record["reference"], record["hypothesis"], record["positives"]) == (["a", "unheard"], ["a"], [0])
    assert [(record["numerator"], record["denominator"]) for record in metric.records()] == [(1, 1), (0, 0), (0, 0)]


def test_d_prime() -> None:
    assert d_prime(0.5) == 0.0
    assert d_prime(0.75) == pytest.approx(2**0.5 * 0.6744897501960817)
    assert d_prime(0.25) == -d_prime(0.75)
    assert d_prime(1.0) == pytest.approx(8.48, abs=0.01)
    normal = np.random.default_rng(0).normal((0.0, 1.5), size=(4000, 2))
    scores, positive = normal.T.reshape(-1), np.repeat([False, True], 4000)
    area = area_under_curve(rank(scores, positive), np.ones((8000, 1)))[0]
    assert d_prime(float(area)) == pytest.approx(1.5, abs=0.05)


def test_written_records_give_the_same_metric() -> None:
    scores, positive = made_up(60, 6, ties=False)
    metric = filled(scores, positive)
    weights = np.random.default_rng(0).integers(0, 3, (5, 60))
    again = ranked(json.loads(json.dumps(metric.records())))
    assert np.array_equal(again.main(weights), metric.main(weights))


def test_scores_that_are_not_finite_are_no_result() -> None:
    scores, positive = made_up(20, 3, ties=False)
    scores[4, 1] = np.nan
    found = filled(scores, positive).compute()
    assert np.isnan([found["map"], found["auc"], found["d_prime"]]).all()
