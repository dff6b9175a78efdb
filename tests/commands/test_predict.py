"""`speechssl predict` as it is typed: rows on stdout, everything else on stderr, one line for what is wrong."""

import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.commands.main import main
from speechssl.data.cuts import Corpus

_SPEC = importlib.util.spec_from_file_location("small", Path(__file__).parents[1] / "deploy" / "conftest.py")
small = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(small)
bench, words, recordings = small.bench, small.words, small.recordings


@pytest.fixture(scope="module")
def run(bench: Callable, words: Corpus) -> str:
    """A result of keyword spotting."""
    (row,) = bench(words, ["ks"])
    return str(row["folder"])


def test_rows_on_stdout(run: str, recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["predict", f"run={run}", f"inputs={recordings}/*/*.wav", "top=1"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["path"]).name for row in found] == ["1.wav", "2.wav", "1.wav"]
    assert all(len(row["scores"]) == 1 for row in found)


def test_lists_windows_and_csv(run: str, recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = f"inputs=[{recordings}/noise.wav,{recordings}/broken.wav]"
    main(["predict", f"run={run}", inputs, "window_seconds=0.5", "format=csv"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "path,task,seconds,start,end,label,score,scores,error"
    assert [line.split(",")[2:5] for line in lines[1:3]] == [["0.5", "0.0", "0.5"], ["0.5", "0.5", "1.0"]]
    assert "cannot be read as audio" in lines[3]


def test_a_corpus_into_a_file(run: str, words: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "answers" / "test.jsonl"
    main(["predict", f"run={run}", f"inputs={words.path}", "split=test", f"out={out}"])
    assert capsys.readouterr().out == ""
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == words.table("test").ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inputs=[]"], "inputs=[] names nothing"),
        (["inputs=a.wav", "num_threads=many"], "num_threads expects a whole number"),
        (["inputs=a.wav", "window_seconds=long"], "window_seconds expects a number, found 'long'"),
        (["inputs=nowhere.wav"], "could be answered; the first: nowhere.wav does not exist"),
        (["inputs=a.wav", "hop_seconds=1"], "hop_seconds needs window_seconds"),
        (["inputs=a.wav", "device=abacus"], "device=abacus cannot be used"),
        (["inputs=a.wav", "widow_seconds=1"], "nearest: 'window_seconds'"),
    ],
)
def test_what_is_wrong_is_one_line(
    run: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", f"run={run}", *arguments])
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "speechssl: error:" in line]
    assert message in line


@pytest.mark.slow
def test_killed_and_run_again_it_is_as_if_it_had_not_been(
    run: str, words: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 once something has been noted; small batches, so that there is a middle to be killed in."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    common = ["predict", f"run={run}", f"inputs={words.path}", "window_seconds=0.1", "max_seconds=0.1"]
    main([*common, f"out={whole}"])
    process = subprocess.Popen([sys.executable, "-m", "speechssl.commands.main", *common, f"out={out}"])
    notes = tmp_path / "answers.jsonl.part.json"
    while process.poll() is None and not notes.exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was faster than its killer"
    assert not out.exists()
    main([*common, f"out={out}"])
    assert out.read_text() == whole.read_text()


@pytest.mark.slow
def test_a_pipe_is_answered_while_it_is_open(run: str, recordings: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "speechssl.commands.main", "predict", f"run={run}", "inputs=-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for name in ("noise.wav", "ann/1.wav"):
        process.stdin.write(f"{recordings / name}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["path"] == str(recordings / name)
    process.stdin.close()
    assert process.wait() == 0
