from pathlib import Path

import numpy as np
import pytest

from speechssl.errors import UserError
from speechssl.probe.rows import Results, read_lines, summarise


def row(**changes: object) -> dict:
    names = {
        "upstream": "a",
        "task": "ks",
        "protocol": "base",
        "corpus": "c",
        "view": "",
        "fold": "",
        "seed": 0,
    }
    return names | {"settings": "x", "value": 1} | changes


def record(numerator: int, denominator: int, speaker: str | None) -> dict:
    return {"numerator": numerator, "denominator": denominator, "speaker": speaker}


def test_rows_survive_and_are_replaced_by_key(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(row())
    results.add(row(seed=1))
    results.add(row(value=2, settings="y"))
    again = Results(tmp_path)
    assert [(r["seed"], r["value"]) for r in again] == [(0, 2), (1, 1)]
    assert again.finished(row(settings="y"))
    assert not again.finished(row(settings="x"))
    assert not again.finished(row(seed=2))
    assert again.get(row())["value"] == 2


def test_damaged_results_are_reported(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"upstream": \n')
    with pytest.raises(UserError, match="damaged"):
        Results(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        read_lines(tmp_path / "nothing.jsonl")


def test_groups_are_averaged_over_words() -> None:
    records = [record(1, 4, "ann"), record(1, 1, "ann"), record(0, 5, "bob")]
    found = summarise(records, {"gender": ["f", "f", None]}, "max")
    assert found["groups"] == {
        "speaker": {"ann": pytest.approx(40.0), "bob": 0.0},
        "gender": {"f": pytest.approx(40.0)},
    }


def test_intervals_over_speakers_are_wider_where_speakers_differ() -> None:
    records = [record(int(speaker < "c"), 1, speaker) for speaker in "abcd" for _ in range(50)]
    found = summarise(records, {}, "max")
    assert found["ci95"][1] - found["ci95"][0] < 16
    assert found["ci95_speaker"] == [0.0, 100.0]


def test_no_interval_over_speakers_without_names() -> None:
    assert summarise([record(1, 1, None), record(0, 1, "a")], {}, "max")["ci95_speaker"] is None
    assert summarise([record(1, 1, "a"), record(0, 1, "a")], {}, "max")["ci95_speaker"] is None


def test_metrics_that_are_no_ratio_are_weighted() -> None:
    right = np.array([1.0, 0.0, 1.0, 1.0] * 10)
    records = [record(0, 0, f"s{i % 4}") | {"scores": [0.0] * 3} for i in range(40)]
    shares = [record(int(value), 1, f"s{i % 4}") for i, value in enumerate(right)]
    genders = ["f", "m", None, "f"] * 10
    found = summarise(
        records, {"gender": genders}, "max", main=lambda weights: 100 * (weights @ right) / weights.sum(axis=1)
    )
    expected = summarise(shares, {"gender": genders}, "max")
    assert found["ci95"] == pytest.approx(expected["ci95"])
    assert found["ci95_speaker"] == pytest.approx(expected["ci95_speaker"])
    assert found["groups"] == expected["groups"]
    assert found["resamples"] == expected["resamples"] == 5000


def test_groups_without_a_metric_are_left_out() -> None:
    def main(weights: np.ndarray) -> np.ndarray:
        return np.where(weights[:, 0] > 0, 50.0, np.nan)

    found = summarise([record(0, 0, "ann"), record(0, 0, "bob")], {"gender": ["f", "f"]}, "max", main=main)
    assert found["groups"] == {"speaker": {"ann": 50.0}, "gender": {"f": 50.0}}
