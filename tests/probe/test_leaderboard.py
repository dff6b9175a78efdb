import json
from pathlib import Path
from typing import Any

import pytest

from speechssl.errors import UserError
from speechssl.probe import leaderboard
from speechssl.probe.leaderboard import BoardSettings, board, markdown, mean_score, read_settings, superb_score

METRICS = {
    "pr.per": "min",
    "ks.acc": "max",
    "ic.acc": "max",
    "sid.acc": "max",
    "er.acc": "max",
    "asr.wer": "min",
    "qbe.mtwv": "max",
    "sf.slot_type_f1": "max",
    "sf.slot_value_cer": "min",
    "asv.eer": "min",
    "sd.der": "min",
}


def figures(*values: float) -> dict[str, float]:
    return dict(zip(METRICS, values, strict=True))


LOW = figures(82.01, 8.63, 9.10, 0.085, 35.39, 23.18, 0.58, 69.64, 52.94, 9.56, 10.05)
HIGH = figures(3.06, 97.86, 99.31, 95.49, 70.62, 3.44, 9.88, 92.21, 18.36, 3.77, 3.24)
MIDDLE = figures(5.41, 96.30, 98.34, 81.42, 64.92, 6.42, 7.36, 88.53, 25.20, 5.11, 5.88)
REFERENCE = {"date": "2020-01-01", "baseline": LOW, "best": HIGH}


def row(upstream: str, name: str, value: float, **other: Any) -> dict[str, Any]:
    task, _, metric = name.partition(".")
    known = {"upstream": upstream, "task": task, "protocol": "base", "corpus": "c", "view": "", "fold": "", "seed": 0}
    known |= {"main_metric": metric, "mode": METRICS[name], "ci95": [value, value]}
    return known | {"metrics": {metric: value}, "superb": {name: METRICS[name]}} | other


@pytest.fixture(autouse=True)
def suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaderboard, "suite", lambda: METRICS)


def test_the_superb_score_spans_from_the_baseline_to_the_best() -> None:
    assert superb_score(LOW, REFERENCE) == pytest.approx(0.0)
    assert superb_score(HIGH, REFERENCE) == pytest.approx(1000.0)
    assert 800 < superb_score(MIDDLE, REFERENCE) < 900


def test_the_score_averages_within_tasks_first() -> None:
    reference = {
        "date": "",
        "baseline": {"sf.a": 0.0, "sf.b": 100.0, "ks.acc": 0.0},
        "best": {"sf.a": 100.0, "sf.b": 0.0, "ks.acc": 50.0},
    }
    assert superb_score({"sf.a": 50.0, "sf.b": 0.0, "ks.acc": 25.0}, reference) == pytest.approx(625.0)


def test_the_mean_turns_errors_around() -> None:
    assert mean_score(MIDDLE, METRICS) == pytest.approx(80.80, abs=0.005)


def test_a_missing_task_makes_scores_partial_and_is_not_filled_in() -> None:
    rows = [row("ours", name, value) for name, value in MIDDLE.items() if not name.startswith(("sf", "qbe"))]
    line = board(rows, BoardSettings(REFERENCE, {"theirs": MIDDLE}))["lines"][0]
    assert line["missing"] == ["qbe", "sf"]
    kept = {name: value for name, value in MIDDLE.items() if not name.startswith(("sf", "qbe"))}
    assert line["mean"] == pytest.approx(mean_score(kept, METRICS))
    assert line["superb_score"] == pytest.approx(superb_score(kept, REFERENCE))
    assert line["superb_score"] > superb_score({**kept, "qbe.mtwv": 0.0}, REFERENCE)
    text = markdown(board(rows, BoardSettings(REFERENCE, {"theirs": MIDDLE})))
    assert "(partial)" in text
    assert "without qbe, sf" in text
    assert "theirs (published)" in text
    assert "2020-01-01" in text


def test_half_a_task_counts_as_missing() -> None:
    line = board([row("ours", "sf.slot_type_f1", 50.0)], BoardSettings(REFERENCE))["lines"][0]
    assert "sf" in line["missing"]
    assert line["superb_score"] is None


def test_folds_and_seeds_are_averaged_and_protocols_are_not_mixed() -> None:
    folds = [row("ours", "er.acc", value, fold=str(value)) for value in (60.0, 70.0)]
    assert board(folds, BoardSettings())["lines"][0]["figures"] == {"er.acc": 65.0}
    mixed = [row("ours", "er.acc", 60.0), row("ours", "er.acc", 70.0, protocol="base+standardize")]
    assert board(mixed, BoardSettings())["lines"][0]["figures"] == {}


def test_files_of_references_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps({"baseline": {}}))
    with pytest.raises(UserError, match="date"):
        read_settings(reference=str(path))
    path.write_text(json.dumps({"theirs": {"kss.acc": 1.0}}))
    with pytest.raises(UserError, match="kss"):
        read_settings(published=str(path))
    with pytest.raises(UserError, match="cannot be read"):
        read_settings(published=str(tmp_path / "none.json"))
    path.write_text(json.dumps(REFERENCE))
    assert read_settings(reference=str(path)).reference == REFERENCE


def test_a_small_part_of_the_suite_makes_no_table() -> None:
    few, half = (list(METRICS.items())[:count] for count in (3, 6))
    rows = [[row("ours", name, 50.0) for name, _ in some] for some in (few, half)]
    assert markdown(board(rows[0], BoardSettings())) == ""
    assert "| ours |" in markdown(board(rows[1], BoardSettings()))
    assert "| ours |" in markdown(board(rows[0], BoardSettings(REFERENCE)))
    assert "| ours |" in markdown(board(rows[0], BoardSettings(None, {"theirs": MIDDLE})))


def test_tasks_of_earlier_commands_count_and_the_newest_protocol_wins(tmp_path: Path) -> None:
    earlier = [row("ours", "ks.acc", 60.0), row("ours", "er.acc", 40.0), row("ours", "er.acc", 45.0, protocol="new")]
    leaderboard.write(tmp_path, earlier, earlier[2:], BoardSettings())
    line = json.loads((tmp_path / "leaderboard.json").read_text())["lines"][0]
    assert line["figures"] == {"er.acc": 45.0, "ks.acc": 60.0}
