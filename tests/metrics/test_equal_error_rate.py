import json

import numpy as np
import pytest
import torch

from speechssl.metrics.equal_error_rate import ScoredTrials, TrialErrors, from_records


def trials(targets: list[float], others: list[float]) -> ScoredTrials:
    return ScoredTrials(np.array(targets + others), np.array([True] * len(targets) + [False] * len(others)))


def eer(scored: ScoredTrials) -> float:
    return float(scored.main(np.ones((1, scored.cells)))[0])


@pytest.mark.parametrize(
    ("targets", "others", "expected"),
    [
        ([0.9, 0.8, 0.3], [0.7, 0.2, 0.1], 100 / 3),
        ([0.9, 0.6, 0.5, 0.4], [0.8, 0.3, 0.2, 0.1, 0.0], 20.0),
        ([0.5, 0.5], [0.5, 0.5, 0.5], 50.0),
        ([0.9, 0.8], [0.1, 0.2], 0.0),
        ([0.1, 0.2], [0.9, 0.8], 100.0),
        ([0.9, 0.5, 0.5, 0.2], [0.8, 0.5, 0.3, 0.1], 41.6667),
    ],
)
def test_hand_computed_rates(targets: list[float], others: list[float], expected: float) -> None:
    assert eer(trials(targets, others)) == pytest.approx(expected, abs=1e-4)


def made_up(seed: int, size: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    targets = generator.random(size) < 0.3
    return np.round(generator.standard_normal(size) + targets, 1), targets


def test_equals_the_definition_on_scikit_learns_curve() -> None:
    curve = pytest.importorskip("sklearn.metrics").roc_curve
    for seed in range(5):
        scores, targets = made_up(seed)
        false, right, _ = curve(targets, scores)
        grid = np.linspace(0, 1, 200_001)
        expected = grid[np.argmin(np.abs(1 - np.interp(grid, false, right) - grid))]
        assert eer(ScoredTrials(scores, targets)) == pytest.approx(100 * expected, abs=1e-3)


def test_any_rising_map_of_the_scores_changes_nothing() -> None:
    scores, targets = made_up(0)
    assert eer(ScoredTrials(np.exp(3 * scores), targets)) == eer(ScoredTrials(scores, targets))


def test_a_weight_is_a_number_of_copies() -> None:
    scores, targets = made_up(1, 80)
    counts = np.random.default_rng(2).integers(0, 4, (70, 80))
    found = ScoredTrials(scores, targets).main(counts.astype(float))
    copies = [eer(ScoredTrials(np.repeat(scores, row), np.repeat(targets, row))) for row in counts]
    np.testing.assert_allclose(found, copies, atol=1e-9)
    assert np.isnan(ScoredTrials(scores, targets).main(targets[None].astype(float)))


def test_detection_cost() -> None:
    scored = trials([0.9, 0.6, 0.5, 0.4], [0.8, 0.3, 0.2, 0.1, 0.0])
    assert scored.detection_cost(0.5) == pytest.approx(2 * 0.5 * 0.2)  # all targets and one of five others
    assert scored.detection_cost(0.01) == pytest.approx(0.75)  # the first target alone
    assert trials([0.1], [0.9]).detection_cost() == 1.0


def test_embeddings_become_scored_trials() -> None:
    metric = TrialErrors()
    embeddings = torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.6, 0.8]])
    labels = {"trials": [[["b", 1], ["c", 0]], [["d", 1], ["gone", 0]]]}
    metric.update(embeddings[:2], torch.ones(2), labels, ["a", "b"])
    metric.update(embeddings[2:], torch.ones(2), {"trials": [[["d", 0]], None]}, ["c", "d"])
    assert metric.compute() == {
        "eer": 50.0,
        "min_dcf": pytest.approx(0.5),
        "trials": 4.0,
        "trials_left_out": 1.0,
    }
    records = json.loads(json.dumps(metric.records()))
    assert [record["id"] for record in records] == ["a b", "a c", "b d", "c d"]
    assert [record["hypothesis"] for record in records] == [1.0, 0.0, 0.6, 0.8]
    assert records[3]["utterances"] == ["c", "d"]
    assert [record["numerator"] for record in records] == [0, 0, 1, 1]
    weights = np.random.default_rng(0).integers(1, 4, (5, 4))
    np.testing.assert_array_equal(from_records(records).main(weights), metric.main(weights))
    assert (metric.per_utterance, from_records(records).cells) == (False, 4)


def test_the_order_of_utterances_does_not_matter() -> None:
    embeddings = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    names = list("abcdef")
    pairs = [[[other, int(other < "d")] for other in names[i + 1 :]] for i in range(6)]
    forth, back = TrialErrors(), TrialErrors()
    forth.update(embeddings, torch.ones(6), {"trials": pairs}, names)
    back.update(embeddings.flip(0), torch.ones(6), {"trials": pairs[::-1]}, names[::-1])
    assert forth.compute() == back.compute()


def test_without_trials_of_both_kinds_there_is_no_rate() -> None:
    metric = TrialErrors()
    assert np.isnan(metric.compute()["eer"])
    metric.update(torch.eye(2), torch.ones(2), {"trials": [[["b", 1]], None]}, ["a", "b"])
    assert np.isnan(metric.compute()["eer"])
    assert np.isnan(metric.main(np.ones((2, 1)))).all()
    assert metric.records()[0]["hypothesis"] == 0.0


def test_a_head_that_says_nothing_has_no_rate() -> None:
    metric = TrialErrors()
    embeddings = torch.tensor([[1.0, 0.0], [0.0, torch.nan], [0.0, 1.0]])
    metric.update(embeddings, torch.ones(3), {"trials": [[["b", 1], ["c", 0]], None, None]}, ["a", "b", "c"])
    assert np.isnan(metric.compute()["eer"])
