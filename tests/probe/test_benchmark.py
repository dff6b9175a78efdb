"""The whole protocol on made-up corpora: every claim of a result row is checked here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus, CutTable
from speechssl.errors import UserError
from speechssl.hub import weights_sha256
from speechssl.probe import encoders, runner
from speechssl.probe.rows import read_lines
from speechssl.probe.train import Probe

PROBE = {
    "standardize": False,
    "steps": 60,
    "batch_size": 16,
    "eval_every": 20,
    "lrs": [1e-1, 1e-2],
    "clip_norm": None,
    "frame_dtype": "float32",
}


def run(upstream: Any, tasks: Any, data: Any, run_dir: Path, probe: dict | None = None, **settings: Any) -> list[dict]:
    arguments = {"seeds": [0], "label": None, "task": {}, "cache": None, "device": "cpu"}
    arguments |= {"settings": {}, "finetune": False, "preset": None, "finetuning": {}}
    arguments |= {"max_seconds": 20.0, "num_workers": 0} | settings
    return runner.benchmark(upstream, tasks, data, run_dir, probe=PROBE | (probe or {}), **arguments)


def test_keywords_and_speakers_are_recognised(words: Corpus, toys: dict, tmp_path: Path) -> None:
    rows = run("toy", ["ks", "sid"], str(words.path), tmp_path, seeds=[0, 1])
    assert [(row["task"], row["seed"]) for row in rows] == [("ks", 0), ("ks", 1), ("sid", 0), ("sid", 1)]
    assert all(row["metrics"]["acc"] > 80 for row in rows)
    sizes = {split: len(words.table(split)) for split in words.splits}
    assert len(toys["toy"].encoded) == sum(sizes.values())  # for two tasks, two seeds and two learning rates
    row = rows[0]
    assert row["main_metric"] == "acc"
    assert row["utterances"] == sizes
    assert row["ci95"][0] <= row["metrics"]["acc"] <= row["ci95"][1]
    assert row["ci95_speaker"] is not None
    assert set(row["grid"]) == {"0.1", "0.01"}
    assert row["dev"] == max(row["grid"].values()) == row["grid"][f"{row['lr']:g}"]
    assert len(row["curves"]["0.1"]) == 3
    assert sum(row["layer_weights"]) == pytest.approx(1.0)
    assert len(row["layer_weights"]) == 3
    assert row["steps"] == 60
    assert row["upstream_sha256"] == weights_sha256(toys["toy"])
    assert row["corpus_fingerprint"] == words.fingerprint
    assert set(row["groups"]["gender"]) == {"female", "male"}
    assert {"torch", "speechssl"} <= set(row["versions"])


def test_run_directories_hold_predictions_metrics_and_the_head(words: Corpus, toys: dict, tmp_path: Path) -> None:
    row = run("toy", "ks", str(words.path), tmp_path)[0]
    folder = tmp_path / row["run"]
    assert folder.is_relative_to(tmp_path / "toy" / "ks")
    predictions = read_lines(folder / "predictions.jsonl")
    assert [line["id"] for line in predictions] == words.table("test").ids
    right = sum(line["reference"] == line["hypothesis"] for line in predictions)
    assert row["metrics"]["acc"] == pytest.approx(100 * right / len(predictions))
    assert row["metrics"]["acc"] == pytest.approx(
        100 * sum(line["numerator"] for line in predictions) / sum(line["denominator"] for line in predictions)
    )
    for name in (
        "config.yaml",
        "metrics.jsonl",
        "environment.json",
        "export/model.safetensors",
        "export/config.json",
    ):
        assert (folder / name).is_file()
    assert not (folder / "checkpoints").exists()
    assert "| toy |" in (tmp_path / "results.md").read_text()


def test_what_a_run_killed_after_its_row_left_behind_is_removed(words: Corpus, toys: dict, tmp_path: Path) -> None:
    probe = {"steps": 2, "eval_every": 1}
    folder = tmp_path / run("toy", "ks", str(words.path), tmp_path, probe)[0]["run"]
    for name in ("kept", "checkpoints"):
        (folder / name).mkdir()
        (folder / name / "step-00000001.safetensors").touch()
    run("toy", "ks", str(words.path), tmp_path, probe)
    assert not (folder / "kept").exists()
    assert not (folder / "checkpoints").exists()
    assert (folder / "export" / "model.safetensors").is_file()


def test_letters_are_recognised(letters: Corpus, toys: dict, tmp_path: Path) -> None:
    task = {"projection_size": 32, "lstm_size": 24, "num_layers": 1, "frame_ms": 60.0, "spec_augment": False}
    probe = {"steps": 100, "batch_size": 8, "eval_every": 50, "lrs": [2e-2], "standardize": True}
    row = run("toy", "asr", str(letters.path), tmp_path, probe, task=task)[0]
    assert row["metrics"]["cer"] < 20
    assert row["metrics"]["wer"] < 40
    assert row["mode"] == "min"
    assert row["protocol"] == "base+standardize"
    assert row["dev"] == min(value for _, value in row["curves"]["0.02"])


def test_frames_and_pooled_features_come_from_one_pass(letters: Corpus, toys: dict, tmp_path: Path) -> None:
    run("toy", ["sid", "asr/debug"], str(letters.path), tmp_path, {"steps": 2, "eval_every": 1})
    assert len(toys["toy"].encoded) == sum(len(letters.table(split)) for split in letters.splits)


def test_the_upstream_stays_as_it_was(words: Corpus, toys: dict, tmp_path: Path) -> None:
    row = run("toy", "ks", str(words.path), tmp_path)[0]
    upstream = toys["toy"]
    assert weights_sha256(upstream) == row["upstream_sha256"]
    assert not upstream.training
    assert all(p.grad is None and not p.requires_grad for p in upstream.parameters())


def test_finished_rows_are_kept_and_changed_settings_replace_them(
    words: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("toy", "ks", str(words.path), tmp_path)
    with monkeypatch.context() as finished:
        finished.setattr(Probe, "run", lambda *_: pytest.fail("computed again"))
        assert run("toy", "ks", str(words.path), tmp_path) == first
    changed = run("toy", "ks", str(words.path), tmp_path, {"steps": 40})
    assert changed[0]["steps"] == 40
    assert [row["steps"] for row in read_lines(tmp_path / "results.jsonl")] == [40]


def test_remains_of_other_settings_are_removed(words: Corpus, toys: dict, tmp_path: Path) -> None:
    short = {"steps": 4, "eval_every": 2}
    folder = tmp_path / run("toy", "ks", str(words.path), tmp_path, short)[0]["run"]
    (folder / "settings.json").write_text('{"settings": "others"}')
    (folder / "remains").touch()
    (tmp_path / "results.jsonl").unlink()
    run("toy", "ks", str(words.path), tmp_path, short)
    assert not (folder / "remains").exists()


def test_commands(words: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = ["data=" + str(words.path), f"run_dir={tmp_path}", "probe.steps=20", "probe.eval_every=10"]
    main(["benchmark", "upstream=[fbank,fbank_no_cmvn]", "tasks=[ks,sid]", "probe.lrs=[1e-2]", *given])
    assert "fbank_no_cmvn │" in capsys.readouterr().out
    assert len(read_lines(tmp_path / "results.jsonl")) == 4
    main(["compare", f"runs={tmp_path}", "baseline=fbank", f"out={tmp_path / 'out'}"])
    assert "| fbank_no_cmvn |" in capsys.readouterr().out
    assert (tmp_path / "out" / "compare.md").is_file()
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "upstream=fbank", "tasks=ks", *given, "probe.step=3"])
    assert stopped.value.code == 2
    assert "nearest: 'probe.steps'" in capsys.readouterr().err


def test_the_same_command_gives_the_same_result(words: Corpus, toys: dict, tmp_path: Path) -> None:
    first, second = (run("toy", "ks", str(words.path), tmp_path / name)[0] for name in ("a", "b"))
    for name in ("metrics", "ci95", "dev", "lr", "grid", "curves", "layer_weights", "groups"):
        assert first[name] == second[name], name


def test_nothing_of_test_is_read_before_selection(
    words: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events, read, table = [], CutTable.read, Corpus.table
    monkeypatch.setattr(CutTable, "read", lambda s, i, *a: events.append(s.ids[i].split("-")[0]) or read(s, i, *a))
    monkeypatch.setattr(Corpus, "table", lambda s, split: events.append(f"labels of {split}") or table(s, split))
    monkeypatch.setattr(Corpus, "fingerprint", "known")  # of a prepared corpus it stands in corpus.json
    selected = Probe.fit
    monkeypatch.setattr(Probe, "fit", lambda *a: (selected(*a), events.append("selected")))
    run("toy", "ks", str(words.path), tmp_path)
    place = events.index("selected")
    assert "test" not in events[:place]
    assert {"train", "dev"} <= set(events[:place])
    assert "test" in events[place:]


def test_several_folders_and_upstreams(words: Corpus, letters: Corpus, toys: dict, tmp_path: Path) -> None:
    data = {"ks": str(words.path), "sid": [str(words.path), str(letters.path)]}
    rows = run({"one": "toy-a", "two": "toy-b"}, ["ks", "sid"], data, tmp_path, {"steps": 4, "eval_every": 2})
    found = [(row["upstream"], row["task"], row["corpus"]) for row in rows]
    assert sorted(found) == sorted(
        (label, task, corpus)
        for label in ("one", "two")
        for task, corpus in (("ks", "words"), ("sid", "words"), ("sid", "letters"))
    )
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert [line.count("|") for line in lines if line.startswith("| ")] == [5] * 4  # head, rule, two upstreams


def test_unreadable_utterances_are_left_out(words: Corpus, toys: dict, tmp_path: Path, monkeypatch: Any) -> None:
    from speechssl.errors import AudioError

    read = CutTable.read

    def break_some(table: CutTable, index: int, *arguments: int) -> np.ndarray:
        if table.ids[index] in ("train-3", "test-0"):
            raise AudioError("broken")
        return read(table, index, *arguments)

    monkeypatch.setattr(CutTable, "read", break_some)
    row = run("toy", "ks", str(words.path), tmp_path, {"steps": 4, "eval_every": 2})[0]
    assert row["unreadable"] == 2
    assert row["utterances"] == {"train": 59, "dev": 24, "test": 23}


def test_normalised_filterbanks_give_constant_predictions(words: Corpus, tmp_path: Path) -> None:
    """Per-utterance mean subtraction leaves nothing of a mean over time: accuracy is one class's share."""
    for probe in ({}, {"standardize": True}):
        row = run("fbank", "ks", str(words.path), tmp_path, probe)[0]
        hypotheses = {line["hypothesis"] for line in read_lines(tmp_path / row["run"] / "predictions.jsonl")}
        assert len(hypotheses) == 1
        assert row["metrics"]["acc"] == pytest.approx(100 * 8 / 24)
        assert row["layer_weights"] == [1.0]
    assert run("fbank_no_cmvn", "ks", str(words.path), tmp_path)[0]["metrics"]["acc"] > 80


def test_corpus_statistics_are_found_for_upstreams_that_want_them(words: Corpus, tmp_path: Path) -> None:
    rows = run("tera/tiny@random", "ks", str(words.path), tmp_path, {"steps": 4, "eval_every": 2})
    assert json.dumps(rows[0])
    assert len(rows[0]["layer_weights"]) == 4


def test_an_upstream_that_cannot_be_loaded_is_noticed_before_work_on_others(
    words: Corpus, toys: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = encoders.load_upstream

    def load_or_refuse(name: str, **overrides: Any) -> Any:
        if name == "damaged":
            raise UserError("damaged is damaged")
        return load(name, **overrides)

    monkeypatch.setattr(encoders, "load_upstream", load_or_refuse)
    with pytest.raises(UserError, match="damaged is damaged"):
        run(["toy", "damaged"], "ks", str(words.path), tmp_path)
    assert not any(toy.encoded for toy in toys.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": "kss"}, "nearest: 'ks'"),
        ({"tasks": ["ks", "ks/debug"]}, "different tasks"),
        ({"data": "nowhere"}, "does not exist"),
        ({"data": {"sid": "nowhere"}}, "names a task 'sid'"),
        ({"tasks": ["ks", "sid"], "label": "digit"}, "single task"),
        ({"task": {"stepps": 3}}, "nearest: 'steps'"),
        ({"device": "tpu"}, "cpu or cuda"),
        ({"label": "genre"}, "two classes"),
        ({"upstream": ["toy", "toy"]}, "name them yourself"),
        ({"probe": {"eval_every": 0}}, "at least 1"),
        ({"probe": {"lrs": [0.1, 0.1]}}, "must be different"),
        ({"probe": {"lrs": 0.1}}, "lrs of task ks expects a list of numbers, found 0.1"),
        ({"probe": {"lrs": ["fast"]}}, "lrs of task ks expects a list of numbers"),
        ({"probe": {"steps": "abc"}}, "steps of task ks expects a whole number, found 'abc'"),
        ({"task": {"balance": "yes"}}, "balance of task ks expects true or false or null, found 'yes'"),
        ({"tasks": "all/huge"}, "no task has a configuration 'huge'; known: base, debug"),
        ({"tasks": "all/debug", "label": "digit"}, "needs a single task, found aec/debug, asr/debug, asv/debug, ...;"),
        ({"seeds": []}, "different whole numbers from 0 on"),
        ({"seeds": [0, 0]}, "different whole numbers from 0 on"),
        ({"seeds": ["a"]}, "different whole numbers from 0 on"),
        ({"seeds": [-1]}, "different whole numbers from 0 on"),
    ],
)
def test_wrong_input_is_explained(
    words: Corpus, toys: dict, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    given = {"upstream": "toy", "tasks": "ks", "data": str(words.path), "run_dir": tmp_path} | arguments
    with pytest.raises(UserError, match=message):
        run(**given)


def test_recordings_in_train_and_test_are_told(
    words: Corpus, toys: dict, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    for split, source in (("train", "train"), ("dev", "dev"), ("test", "train")):
        (leaky / f"{split}.jsonl.gz").write_bytes((words.path / f"{source}.jsonl.gz").read_bytes())
    run("toy", "ks", str(leaky), tmp_path / "bench", {"steps": 4, "eval_every": 2})
    assert "60 recordings of" in caplog.text
    assert "are in train and in test as well" in caplog.text
    assert "in dev as well" not in caplog.text
