import json
from pathlib import Path

import numpy as np
import pytest

from speechssl.errors import UserError
from speechssl.metrics.average_precision import RankedScores
from speechssl.metrics.bootstrap import resampled_weights
from speechssl.probe.compare import compare, markdown
from speechssl.probe.rows import read_lines, write_lines

SPEAKERS = [f"speaker{i % 6}" for i in range(300)]


def write_run(run_dir: Path, results: list[tuple[str, str, int, np.ndarray]], prefix: str = "u") -> Path:
    """Write a benchmark's rows and predictions: (label, fold, seed, right or wrong per utterance)."""
    rows = []
    for label, fold, seed, right in results:
        folder = f"{label}/ks/{fold}-{seed}"
        row = {
            "upstream": label,
            "task": "ks",
            "protocol": "base",
            "corpus": "c",
            "view": "",
            "fold": fold,
            "seed": seed,
        }
        row |= {
            "main_metric": "acc",
            "mode": "max",
            "settings": f"{run_dir}{label}{fold}{seed}",
            "run": folder,
        }
        rows.append(row | {"metrics": {"acc": 100 * float(right.mean())}})
        records = [
            {"id": f"{prefix}{i}", "numerator": int(one), "denominator": 1, "speaker": SPEAKERS[i % 300]}
            for i, one in enumerate(right)
        ]
        write_lines(run_dir / folder / "predictions.jsonl", records)
    write_lines(run_dir / "results.jsonl", rows)
    return run_dir


def outcome(share: float, size: int = 300, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(size) < share


def system(report: dict, name: str) -> dict:
    return next(entry for entry in report["columns"][0]["systems"] if entry["upstream"] == name)


def test_differences_spread_and_files(tmp_path: Path) -> None:
    hard = outcome(0.7)
    better = [hard | outcome(0.5, seed=s) for s in (1, 2, 3)]
    runs = [
        write_run(tmp_path / "one", [("base", "", 0, hard), ("ours", "", 0, better[0])]),
        write_run(tmp_path / "two", [("ours", "", 0, better[1]), ("ours", "", 1, better[2])]),
    ]
    report = compare(runs, ["base"], tmp_path / "out", seed=0)
    ours, means = system(report, "ours"), [100 * float(b.mean()) for b in better]
    assert ours["mean"] == pytest.approx(np.mean(means))
    assert ours["spread"] == pytest.approx(np.std(means, ddof=1))
    assert ours["replicates"] == 3
    found = ours["differences"]["base"]
    assert found["difference"] == pytest.approx(np.mean(means) - 100 * hard.mean())
    deviation = np.std(100 * (np.mean(better, axis=0) - hard), ddof=1) / np.sqrt(300)
    assert found["ci95"] == pytest.approx(
        [found["difference"] - 1.96 * deviation, found["difference"] + 1.96 * deviation], abs=0.4
    )
    assert found["excludes_zero"]
    assert found["better"]
    assert found["ci95_speaker"][0] > 0
    assert system(report, "base")["differences"] == {}
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == json.loads(json.dumps(report))
    assert (tmp_path / "out" / "compare.md").read_text() == markdown(report)
    assert "**+" in markdown(report)


def test_a_difference_within_chance_is_said_to_be_one(tmp_path: Path) -> None:
    run = write_run(tmp_path, [("base", "", 0, outcome(0.8)), ("ours", "", 0, outcome(0.8, seed=5))])
    found = system(compare([run], ["base"], None, seed=0), "ours")["differences"]["base"]
    assert not found["excludes_zero"]
    assert found["ci95"][0] < 0 < found["ci95"][1]


def test_folds_with_the_same_test_set_are_no_new_evidence(tmp_path: Path) -> None:
    base, ours = outcome(0.7), outcome(0.75, seed=1)
    one = write_run(tmp_path / "one", [("base", "a", 0, base), ("ours", "a", 0, ours)])
    five = [(label, fold, 0, right) for fold in "abcde" for label, right in (("base", base), ("ours", ours))]
    several = write_run(tmp_path / "five", five)
    single, repeated = (compare([run], ["base"], None, seed=0) for run in (one, several))
    assert (
        system(single, "ours")["differences"]["base"]["ci95"] == system(repeated, "ours")["differences"]["base"]["ci95"]
    )


def test_folds_with_test_sets_of_their_own_count_equally(tmp_path: Path) -> None:
    small, large = np.ones(10), np.zeros(200)
    rows = [
        ("base", "a", 0, np.zeros(10)),
        ("base", "b", 0, large),
        ("ours", "a", 0, small),
        ("ours", "b", 0, large),
    ]
    found = system(compare([write_run(tmp_path, rows)], ["base"], None, seed=0), "ours")
    assert found["folds"] == {"a": 100.0, "b": 0.0}
    assert found["differences"]["base"]["difference"] == 50.0
    assert found["differences"]["base"]["ci95"] == [50.0, 50.0]


def test_the_same_result_in_two_runs_counts_once(tmp_path: Path) -> None:
    run = write_run(tmp_path, [("base", "", 0, outcome(0.5)), ("ours", "", 0, outcome(0.6))])
    assert system(compare([run, run], ["base"], None, seed=0), "ours")["replicates"] == 1


def test_wrong_input_is_explained(tmp_path: Path) -> None:
    run = write_run(tmp_path / "one", [("base", "", 0, outcome(0.5)), ("ours", "", 0, outcome(0.6))])
    with pytest.raises(UserError, match="nearest: 'base'"):
        compare([run], ["bass"], None, seed=0)
    with pytest.raises(UserError, match="does not exist"):
        compare([tmp_path / "nowhere"], ["base"], None, seed=0)
    other = write_run(tmp_path / "two", [("ours", "", 1, outcome(0.6))], prefix="v")
    with pytest.raises(UserError, match="other test utterances"):
        compare([run, other], ["base"], None, seed=0)
    other = write_run(tmp_path / "three", [("new", "", 1, outcome(0.6))], prefix="v")
    with pytest.raises(UserError, match="differ between systems"):
        compare([run, other], ["base"], None, seed=0)


def write_ranked_run(run_dir: Path, results: list[tuple[str, str, int, np.ndarray]], positive: np.ndarray) -> Path:
    """Write a multi-label benchmark: (label, fold, seed, class scores (utterances, classes))."""
    run = write_run(run_dir, [(*result[:3], np.zeros(len(positive))) for result in results])
    for label, fold, seed, scores in results:
        records = [
            {"id": f"u{i}", "numerator": 0, "denominator": 1, "speaker": SPEAKERS[i], "scores": row.tolist()}
            | {"positives": np.flatnonzero(positive[i]).tolist()}
            for i, row in enumerate(scores)
        ]
        write_lines(run / f"{label}/ks/{fold}-{seed}/predictions.jsonl", records)
    write_lines(run / "results.jsonl", [row | {"main_metric": "map"} for row in read_lines(run / "results.jsonl")])
    return run


def ranked_results(noises: dict[str, list[float]], folds: str) -> tuple[list, np.ndarray]:
    generator = np.random.default_rng(0)
    positive = generator.random((120, 6)) < 0.2
    results = [
        (label, fold, seed, positive + noise * generator.normal(size=positive.shape))
        for label, own in noises.items()
        for fold in folds
        for seed, noise in enumerate(own)
    ]
    return results, positive


def test_metrics_that_are_no_ratio_are_compared_on_the_same_resamples(tmp_path: Path) -> None:
    results, positive = ranked_results({"base": [0.6], "ours": [0.4, 0.45]}, folds="a")
    report = compare([write_ranked_run(tmp_path, results, positive)], ["base"], None, seed=3)
    ours, found = system(report, "ours"), system(report, "ours")["differences"]["base"]
    order = sorted(range(120), key=lambda i: f"u{i}")  # utterances are sorted by id
    scores = [RankedScores(one[order], positive[order]) for *_, one in results]
    values = [float(one.main(np.ones((1, 120)))[0]) for one in scores]
    assert ours["mean"] == pytest.approx((values[1] + values[2]) / 2)
    assert found["difference"] == pytest.approx((values[1] + values[2]) / 2 - values[0])
    drawn = np.concatenate(list(resampled_weights(120, 5000, seed=3)))
    base, first, second = (one.main(drawn) for one in scores)
    expected = np.percentile((first + second) / 2 - base, (2.5, 97.5))
    assert found["ci95"] == pytest.approx(expected.tolist())
    assert found["resamples"] == 5000
    assert found["better"]
    assert found["ci95_speaker"][0] < found["difference"] < found["ci95_speaker"][1]


def test_folds_of_ranked_scores_with_one_test_set_are_no_new_evidence(tmp_path: Path) -> None:
    results, positive = ranked_results({"base": [0.6], "ours": [0.5]}, folds="a")
    repeated = [(label, fold, seed, scores) for label, _, seed, scores in results for fold in "abc"]
    runs = [write_ranked_run(tmp_path / str(len(some)), some, positive) for some in (results, repeated)]
    single, several = (
        system(compare([run], ["base"], None, seed=0), "ours")["differences"]["base"]["ci95"] for run in runs
    )
    assert single == pytest.approx(several)


def test_folds_of_ranked_scores_with_test_sets_of_their_own_count_equally(tmp_path: Path) -> None:
    results, positive = ranked_results({"base": [0.6], "ours": [0.5]}, folds="ab")
    run = write_ranked_run(tmp_path, results, positive)
    for label in ("base", "ours"):  # fold b is tested on the first 40 utterances, under other names
        path = run / f"{label}/ks/b-0/predictions.jsonl"
        write_lines(path, [record | {"id": f"v{i}"} for i, record in enumerate(read_lines(path)[:40])])
    found = system(compare([run], ["base"], None, seed=0), "ours")["differences"]["base"]
    per_fold = {}
    for label, fold, _, scores in results:
        size = 120 if fold == "a" else 40
        value = RankedScores(scores[:size], positive[:size]).main(np.ones((1, size)))[0]
        per_fold[fold] = per_fold.get(fold, 0.0) + (value if label == "ours" else -value)
    assert found["difference"] == pytest.approx((per_fold["a"] + per_fold["b"]) / 2)
    assert found["ci95"][0] < found["difference"] < found["ci95"][1]
    assert found["ci95_speaker"][0] < found["difference"] < found["ci95_speaker"][1]


def test_micro_f1_is_compared_on_the_same_resamples(tmp_path: Path) -> None:
    """Entities right, said and found per utterance: F1 = 2 right / (said + found), not a mean of recalls."""
    generator, results = np.random.default_rng(0), []
    said = generator.integers(0, 4, 120)
    run = write_run(tmp_path, [(label, "", 0, np.zeros(120)) for label in ("base", "ours")])
    for label, share, extra in (("base", 0.4, 2), ("ours", 0.7, 1)):
        right = generator.binomial(said, share)
        found = right + generator.integers(0, extra + 1, 120)
        results.append((right, found))
        counts = zip(right.tolist(), said.tolist(), found.tolist(), strict=True)
        records = [
            {"id": f"u{i:03d}", "numerator": r, "denominator": s, "found": f, "speaker": SPEAKERS[i]}
            for i, (r, s, f) in enumerate(counts)
        ]
        write_lines(run / f"{label}/ks/-0/predictions.jsonl", records)
    write_lines(run / "results.jsonl", [row | {"main_metric": "f1"} for row in read_lines(run / "results.jsonl")])
    ours = system(compare([run], ["base"], None, seed=3), "ours")
    drawn = np.concatenate([np.ones((1, 120)), *resampled_weights(120, 5000, seed=3)])
    base, better = (200 * (drawn @ right) / (drawn @ (said + found)) for right, found in results)
    assert ours["mean"] == pytest.approx(better[0])
    assert ours["differences"]["base"]["difference"] == pytest.approx(better[0] - base[0])
    assert ours["differences"]["base"]["ci95"] == pytest.approx(
        np.percentile((better - base)[1:], (2.5, 97.5)).tolist()
    )
