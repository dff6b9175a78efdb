import json

import numpy as np
import pytest

from speechssl.metrics.term_weighted import BETA, TermWeightedValue, from_records


def brute_force(scores: np.ndarray, relevant: np.ndarray, beta: float, draws: np.ndarray) -> float:
    """Try every threshold; draws (Q,) tells how often each query is in."""
    best = 0.0
    for threshold in np.unique(scores):
        said = scores >= threshold
        misses = [(np.mean(~said[q][relevant[q]]), draws[q]) for q in range(len(scores)) if relevant[q].any()]
        false = [(np.mean(said[q][~relevant[q]]), draws[q]) for q in range(len(scores)) if (~relevant[q]).any()]
        missed, alarms = (np.average([r for r, _ in rates], weights=[w for _, w in rates]) for rates in (misses, false))
        best = max(best, 1.0 - missed - beta * alarms)
    return 100 * best


def made_up(seed: int, beta: float = BETA) -> TermWeightedValue:
    generator = np.random.default_rng(seed)
    relevant = generator.random((5, 40)) < 0.15
    relevant[3], relevant[4, 0] = False, True  # one query that no document holds
    scores = np.round(generator.standard_normal((5, 40)) + 2.5 * relevant, 1)
    return TermWeightedValue(scores, relevant, list("abcde"), [f"d{i}" for i in range(40)], beta)


def test_hand_computed() -> None:
    scores = np.array([[0.9, 0.8, 0.1, 0.0], [0.7, 0.2, 0.95, 0.3]])
    relevant = np.array([[1, 1, 0, 0], [1, 0, 0, 0]]) > 0
    # At 0.7 all three matches are found with one of three other documents of the second query.
    found = TermWeightedValue(scores, relevant, ["a", "b"], list("wxyz"), beta=1.2).compute()
    assert found == {"mtwv": pytest.approx(80.0), "p_miss": 0.0, "p_fa": pytest.approx(100 / 6)}
    # At beta 12.49 one false alarm costs more than any match is worth: nothing is said.
    found = TermWeightedValue(scores, relevant, ["a", "b"], list("wxyz")).compute()
    assert found == {"mtwv": 0.0, "p_miss": 100.0, "p_fa": 0.0}


@pytest.mark.parametrize("beta", [0.5, 2.0, BETA])
def test_equals_trying_every_threshold(beta: float) -> None:
    for seed in range(4):
        metric = made_up(seed, beta)
        expected = brute_force(metric.scores, metric.relevant, beta, np.ones(5))
        assert metric.compute()["mtwv"] == pytest.approx(expected)


def test_a_query_drawn_twice_counts_twice() -> None:
    metric = made_up(0, 1.0)
    draws = np.random.default_rng(1).integers(0, 3, (20, 5))
    draws[:, 0] = 1
    expected = [brute_force(metric.scores, metric.relevant, 1.0, row) for row in draws]
    np.testing.assert_allclose(metric.main(np.repeat(draws, 40, axis=1)), expected)


def test_a_document_drawn_twice_is_two_documents() -> None:
    metric = made_up(0, 1.0)
    draws = np.random.default_rng(1).integers(1, 3, 40)
    copies = TermWeightedValue(
        np.repeat(metric.scores, draws, axis=1),
        np.repeat(metric.relevant, draws, axis=1),
        list("abcde"),
        [str(i) for i in range(draws.sum())],
        1.0,
    )
    assert metric.main(np.tile(draws, 5)[None])[0] == pytest.approx(copies.compute()["mtwv"])


def test_records_give_the_same() -> None:
    metric = made_up(2, 3.0)
    records = json.loads(json.dumps(metric.records()))
    weights = np.random.default_rng(0).integers(0, 3, (20, 200))
    again = from_records(records)
    np.testing.assert_array_equal(again.main(weights), metric.main(weights))
    assert again.cells >= 200
    assert records[41]["utterances"] == ["b", "d1"]
    said = sum(record["hypothesis"] >= metric.threshold() for record in records)
    assert 0 < said < 200
    wrong = {record["id"] for record in records if record["numerator"]}
    rates = metric.compute()
    assert bool(wrong) == (rates["p_miss"] + rates["p_fa"] > 0)


def test_without_a_match_there_is_no_value() -> None:
    metric = TermWeightedValue(np.zeros((1, 2)), np.zeros((1, 2), bool), ["q"], ["a", "b"])
    assert np.isnan(metric.compute()["mtwv"])
    assert metric.records()[0]["numerator"] == 0
