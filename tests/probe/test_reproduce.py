"""Rows that are computed anew from what they say, and tasks that find their views."""

import gzip
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.probe import plan, room
from speechssl.probe.reproduce import find_row, reproduce
from speechssl.probe.rows import read_lines

STEPS = ["probe.steps=30", "probe.eval_every=10", "probe.lrs=[1e-1,1e-2]", "num_threads=1"]


def call(*arguments: str) -> None:
    main(["benchmark", *arguments, *STEPS])


@pytest.fixture
def row(words: Corpus, tmp_path: Path) -> dict[str, Any]:
    call("upstream=fbank_no_cmvn", "tasks=ks/debug", f"data={words.path}", f"run_dir={tmp_path / 'bench'}", "seeds=[3]")
    return read_lines(tmp_path / "bench/results.jsonl")[0]


def test_a_row_is_computed_anew_to_the_last_digit(
    row: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "bench/results.jsonl"
    assert find_row(f"{path}:{row['settings']}") == find_row(f"{path}:1") == row
    found = reproduce(f"{path}:1", tmp_path / "again")
    assert found.differences == {}
    assert found.largest == 0.0
    assert found.again["metrics"] == row["metrics"]
    verb, *keys = row["reproduce"].split()[1:]
    main([verb, *[key for key in keys if not key.startswith("out=")], f"out={tmp_path / 'third'}"])
    assert "equal to the last digit" in capsys.readouterr().out


def test_what_changed_meanwhile_is_named(row: dict[str, Any], words: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "bench/results.jsonl"
    path.write_text(json.dumps(row | {"upstream_sha256": "0" * 64}) + "\n")
    with pytest.raises(UserError, match="upstream fbank_no_cmvn is another one now"):
        reproduce(f"{path}:1", tmp_path / "again")
    path.write_text(json.dumps(row | {"corpus_fingerprint": "0" * 16}) + "\n")
    with pytest.raises(UserError, match=r"corpus .* is another one now"):
        reproduce(f"{path}:1", tmp_path / "again")
    with pytest.raises(UserError, match="0 rows"):
        find_row(f"{path}:zzz")
    with pytest.raises(UserError, match="expects RUN_DIR"):
        find_row("nothing")


def test_rows_say_what_chance_is_and_measure_the_representation(row: dict[str, Any]) -> None:
    assert row["chance"] == pytest.approx(100 / 3)
    assert row["above_chance"] == (row["ci95"][0] > row["chance"])
    measures = row["representation"]
    assert measures["utterances"] == 60
    assert 1.0 <= measures["rankme_centred"][0] <= 60
    assert len(measures["rankme"]) == 1
    assert row["gaps"]["gender"]["best"] in ("female", "male")
    assert row["cpu_threads"] == 1


def view(words: Corpus, folder: Path, **columns: str) -> Path:
    """Copy the corpus with columns renamed, as a prepared view."""
    folder.mkdir(parents=True)
    for split in ("train", "dev", "test"):
        with (
            gzip.open(words.path / f"{split}.jsonl.gz", "rt") as file,
            gzip.open(folder / f"{split}.jsonl.gz", "wt") as out,
        ):
            for line in file:
                cut = json.loads(line)
                custom = cut["supervisions"][0].pop("custom")
                cut["custom"] = {new: custom[old] for new, old in columns.items()}
                out.write(json.dumps(cut) + "\n")
    info = {"format": 1, "name": "tones", "view": folder.name, "fold": "", "fingerprint": folder.name}
    (folder / "corpus.json").write_text(json.dumps(info | {"task_size": "debug"}))
    return folder


def test_all_tasks_take_their_views_and_say_what_is_left_out(
    words: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="speechssl")
    corpus = view(words, tmp_path / "corpus", something="keyword")
    view(words, corpus / "ks", keyword="keyword")
    view(words, corpus / "aec", label="keyword")
    call("upstream=fbank_no_cmvn", "tasks=all", f"data={corpus}", f"run_dir={tmp_path / 'bench'}")
    rows = read_lines(tmp_path / "bench/results.jsonl")
    assert {(row["task"], row["view"]) for row in rows} == {("aec", "aec"), ("ks", "ks"), ("sid", "corpus")}
    assert {row["protocol"] for row in rows} == {"debug"}
    assert "task asr is left out: " in caplog.text
    board = json.loads((tmp_path / "bench/leaderboard.json").read_text())
    assert "ks.acc" in board["lines"][0]["figures"]
    assert "asr" in board["lines"][0]["missing"]


def test_a_size_of_all_tasks_can_be_given(words: Corpus, tmp_path: Path) -> None:
    corpus = view(words, tmp_path / "corpus", keyword="keyword")
    assert plan.every_task("all/base") == "base"
    assert plan.every_task("all") == ""
    assert plan.every_task(["all/debug"]) == "debug"
    assert plan.every_task("alle") is None
    assert plan.every_task(["ks", "asr"]) is None
    with pytest.raises(UserError, match="tasks=all stands alone, found ks, all"):
        plan.every_task(["ks", "all"])
    assert "ks/base" in plan.sized_tasks("base", str(corpus))
    assert "ks/debug" in plan.sized_tasks("", str(corpus))
    assert "ks/base" in plan.sized_tasks("", str(words.path))
    with pytest.raises(UserError, match="one prepared folder"):
        plan.sized_tasks("", [str(corpus)])


def test_frames_that_do_not_fit_are_refused_before_any_work(
    letters: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(room, "_disk", lambda folder: (10**6, 10**9))
    with pytest.raises(SystemExit) as stopped:
        call("upstream=fbank_no_cmvn", "tasks=asr/debug", f"data={letters.path}", f"run_dir={tmp_path}")
    assert stopped.value.code == 2
    assert "probe.online=true" in capsys.readouterr().err
    shutil.rmtree(tmp_path, ignore_errors=True)
