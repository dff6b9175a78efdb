import numpy as np
import pytest

from speechssl.metrics import bootstrap


def test_interval_of_a_share_agrees_with_its_normal_approximation() -> None:
    right = np.zeros(1000)
    right[:800] = 1
    low, high = bootstrap.interval(right, np.ones(1000))
    margin = 100 * 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert low == pytest.approx(80 - margin, abs=0.3)
    assert high == pytest.approx(80 + margin, abs=0.3)


def test_interval_of_a_ratio_agrees_with_the_delta_method() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(5, 30, 800).astype(float)
    errors = generator.binomial(words.astype(int), 0.2).astype(float)
    rate = errors.sum() / words.sum()
    deviation = np.sqrt(np.sum((errors - rate * words) ** 2)) / words.sum()
    low, high = bootstrap.interval(errors, words)
    assert (low, high) == pytest.approx((100 * (rate - 1.96 * deviation), 100 * (rate + 1.96 * deviation)), abs=0.15)


def test_coverage_is_about_95_percent() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap.interval(generator.random(150) < 0.7, np.ones(150), seed=trial)
        covered += low <= 70 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_seeded_and_chunked_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((50, 2))
    whole = bootstrap.resampled_sums(values, 40, seed=3)
    assert np.array_equal(whole, bootstrap.resampled_sums(values, 40, seed=3))
    assert not np.array_equal(whole, bootstrap.resampled_sums(values, 40, seed=4))
    monkeypatch.setattr(bootstrap, "CHUNK", 150)
    np.testing.assert_allclose(bootstrap.resampled_sums(values, 40, seed=3), whole)


def test_pairing_removes_what_both_systems_share() -> None:
    generator = np.random.default_rng(0)
    hard = generator.random(400) < 0.5
    ours = np.where(hard, 0.0, 1.0)
    theirs = ours.copy()
    theirs[np.flatnonzero(ours)[:20]] = 0.0  # 5 points worse, on utterances that the other gets right
    low, high = bootstrap.paired_interval([np.stack([ours, np.ones(400), theirs, np.ones(400)], axis=1)])
    assert 2.5 < low < 5.0 < high < 7.5
    margin = 100 * 1.96 * np.sqrt(0.05 * 0.95 / 400)
    assert high - low == pytest.approx(2 * margin, abs=0.6)


def test_equal_systems_differ_by_exactly_nothing() -> None:
    counts = np.stack([np.random.default_rng(0).random(30), np.ones(30)], axis=1)
    assert bootstrap.paired_interval([np.tile(counts, 2)]) == (0.0, 0.0)


def test_systems_may_count_in_units_of_their_own() -> None:
    """Frames of 10 ms beside frames of 20 ms: as many errors per second are no difference."""
    counts = np.stack([np.random.default_rng(0).integers(0, 9, 30), np.full(30, 20)], axis=1)
    assert bootstrap.paired_interval([np.concatenate([2 * counts, counts], axis=1)]) == (0.0, 0.0)


def test_strata_count_equally_whatever_their_size() -> None:
    small = np.tile([[1.0, 1.0, 0.0, 1.0]], (5, 1))
    large = np.tile([[0.0, 1.0, 0.0, 1.0]], (500, 1))
    assert bootstrap.paired_interval([small, large]) == (50.0, 50.0)


def test_clusters_are_summed_by_name() -> None:
    sums = bootstrap.clustered(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), ["b", "a", "b"])
    assert sums.tolist() == [[3.0, 4.0], [6.0, 8.0]]


def share(right: np.ndarray) -> bootstrap.MainMetric:
    """A metric of weighted records that is a ratio of sums after all."""
    return lambda weights: 100.0 * (weights @ right) / weights.sum(axis=1)


def test_weighted_records_give_what_drawn_sums_give(monkeypatch: pytest.MonkeyPatch) -> None:
    right = (np.random.default_rng(0).random(90) < 0.6).astype(float)
    sums = bootstrap.resampled_sums(np.stack([right, np.ones(90)], axis=1), 70, seed=3)
    found = bootstrap.resampled_main(share(right), np.arange(90), 90, 70, seed=3)
    np.testing.assert_allclose(found, bootstrap.ratio(sums))
    monkeypatch.setattr(bootstrap, "WEIGHTS", 1000)
    np.testing.assert_allclose(bootstrap.resampled_main(share(right), np.arange(90), 90, 70, seed=3), found)


def test_weighted_records_are_drawn_by_cluster() -> None:
    right = np.random.default_rng(0).random(90)
    names = [f"s{i % 7}" for i in range(90)]
    sums = bootstrap.clustered(np.stack([right, np.ones(90)], axis=1), names)
    expected = bootstrap.ratio(bootstrap.resampled_sums(sums, 50, seed=1))
    found = bootstrap.resampled_main(share(right), np.arange(90) % 7, 7, 50, seed=1)
    np.testing.assert_allclose(found, expected)


def test_costly_metrics_are_resampled_less_often() -> None:
    assert bootstrap.affordable_resamples(2000 * 50) == bootstrap.RESAMPLES
    assert bootstrap.affordable_resamples(20_000 * 527) == 948
    assert bootstrap.affordable_resamples(10**9) == bootstrap.FEWEST


def test_resamples_without_a_metric_do_not_count() -> None:
    assert bootstrap.percentiles(np.array([1.0, np.nan, 1.0])) == (1.0, 1.0)
