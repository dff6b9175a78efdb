"""Tasks whose main metrics are of every kind on two upstreams and two seeds: their rows and their comparison."""

from pathlib import Path
from typing import Any

import pytest

from speechssl.data.cuts import Corpus
from speechssl.probe import runner
from speechssl.probe.compare import compare
from speechssl.probe.rows import RESULTS, read_lines, write_lines

MAIN = {
    "asv": ("eer", "min"),
    "qbe": ("mtwv", "max"),
    "sentiment": ("macro_f1", "max"),
    "ner": ("f1", "max"),
    "sd": ("der", "min"),
    "sf": ("slot_type_f1", "max"),
}
SETTINGS = {"standardize": False, "steps": 4, "eval_every": 2, "batch_size": 8, "lrs": [1e-2], "clip_norm": None}
SETTINGS |= {"frame_dtype": "float16"}


Suite = tuple[Path, list[dict[str, Any]]]


def run(upstream: Any, tasks: list[str], corpus: Corpus, run_dir: Path, seeds: list[int]) -> list[dict[str, Any]]:
    fixed = {"label": None, "task": {}, "settings": {}, "finetune": False, "preset": None, "finetuning": {}}
    fixed |= {"cache": None, "device": "cpu", "max_seconds": 20.0, "num_workers": 0}
    return runner.benchmark(upstream, tasks, str(corpus.path), run_dir, seeds=seeds, probe=SETTINGS, **fixed)


@pytest.fixture(scope="module")
def suite(everything: Corpus, undrawn: None, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """A finished benchmark of two upstreams."""
    run_dir = tmp_path_factory.mktemp("suite")
    tasks = [f"{name}/debug" for name in MAIN]
    return run_dir, run(["fbank_no_cmvn", "fbank"], tasks, everything, run_dir, [0, 1])


def test_every_task_has_its_main_metric_with_an_interval(suite: Suite) -> None:
    run_dir, rows = suite
    assert len(rows) == 2 * 2 * len(MAIN)
    for row in rows:
        assert (row["main_metric"], row["mode"]) == MAIN[row["task"]], row["task"]
        assert row["ci95"][0] <= row["metrics"][row["main_metric"]] <= row["ci95"][1], row["task"]
        assert row["chance"] is not None
        assert row["utterances"]["test"] <= 16
        assert read_lines(run_dir / row["run"] / "predictions.jsonl")
        assert not (run_dir / row["run"] / "kept").exists()
    assert all(len(row["layer_curve"]) == 2 for row in rows if row["task"] != "qbe")


def test_rows_of_every_kind_are_compared(suite: Suite) -> None:
    """Means are those of the rows, differences those of the means, and an interval holds its difference."""
    run_dir, rows = suite
    report = compare([run_dir], ["fbank"], None, seed=0)
    assert len(report["columns"]) == len(MAIN)
    for column in report["columns"]:
        name, (metric, mode) = column["task"], MAIN[column["task"]]
        assert column["mode"] == mode
        values = {
            label: [row["metrics"][metric] for row in rows if (row["task"], row["upstream"]) == (name, label)]
            for label in ("fbank_no_cmvn", "fbank")
        }
        means = {label: sum(own) / len(own) for label, own in values.items()}
        entries = {entry["upstream"]: entry for entry in column["systems"]}
        for label, entry in entries.items():
            assert entry["mean"] == pytest.approx(means[label], abs=1e-6), name
            assert entry["replicates"] == len(values[label])
        found = entries["fbank_no_cmvn"]["differences"]["fbank"]
        assert found["difference"] == pytest.approx(means["fbank_no_cmvn"] - means["fbank"], abs=1e-6), name
        assert found["ci95"][0] - 1e-6 <= found["difference"] <= found["ci95"][1] + 1e-6, name
        better = found["difference"] > 0 if mode == "max" else found["difference"] < 0
        assert found["better"] is better


def test_a_system_does_not_differ_from_itself(suite: Suite, tmp_path: Path) -> None:
    """The same predictions under another name: no difference, and no interval around it."""
    run_dir, rows = suite
    write_lines(
        tmp_path / RESULTS,
        [row | {"run": str(run_dir / row["run"]), "upstream": label} for row in rows for label in ("one", "two")],
    )
    kept = {(row["upstream"], row["settings"]): row for row in read_lines(tmp_path / RESULTS)}
    report = compare([tmp_path], ["one"], None, seed=0)
    assert len(kept) == 2 * len(rows)
    for column in report["columns"]:
        entry = next(entry for entry in column["systems"] if entry["upstream"] == "two")
        found = entry["differences"]["one"]
        assert found["difference"] == 0.0, column["task"]
        assert found["ci95"] == [0.0, 0.0], column["task"]
        assert not found["excludes_zero"]


def test_diarization_is_compared_across_frame_rates(
    everything: Corpus, toys: dict, tmp_path: Path, suite: Suite
) -> None:
    """Frames of 20 ms are half as many as frames of 10 ms: rates are compared, not counts."""
    run_dir, rows = suite
    (row,) = run("toy", ["sd/debug"], everything, tmp_path, [0])
    assert toys["toy"].downsample_rate == 320
    rates = [other["metrics"]["der"] for other in rows if (other["task"], other["upstream"]) == ("sd", "fbank")]
    column = next(c for c in compare([tmp_path, run_dir], ["toy"], None, seed=0)["columns"] if c["task"] == "sd")
    found = next(entry for entry in column["systems"] if entry["upstream"] == "fbank")["differences"]["toy"]
    difference = sum(rates) / 2 - row["metrics"]["der"]
    assert row["metrics"]["der"] > 30.0
    assert found["difference"] == pytest.approx(difference, abs=1e-6)
    assert found["ci95"][0] < difference < found["ci95"][1]
