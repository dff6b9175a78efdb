"""An interrupted preparation ends with the bytes of an uninterrupted one; a finished one is left alone."""

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data import lock, parts
from speechssl.data import prepare as prepare_module
from speechssl.data.cuts import open_corpus
from speechssl.data.lock import only_one
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

Tree = Callable[..., Path]
Write = Callable[..., Path]
Bytes = Callable[[Path], dict[str, bytes]]

KILLED = """
import os, signal, sys
from speechssl.data import parts, prepare, run_parts
parts.PART_ITEMS = 4
kill_at, source, out, workers = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
seen = 0
def counted(function):
    def call(*arguments):
        global seen
        seen += 1
        if seen > kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
if __name__ == "__main__":
    parts.read_item = counted(parts.read_item)
    if workers > 1:
        run_parts._count = counted(run_parts._count)
    prepare.prepare("folder", source, out, workers=workers, progress=False)
"""


@pytest.mark.parametrize(("kill_at", "workers"), [(0, 1), (3, 1), (17, 1), (22, 1), (1, 2), (4, 2)])
def test_killed_and_resumed_gives_the_same_bytes(
    audio_tree: Tree,
    tmp_path: Path,
    folder_bytes: Bytes,
    monkeypatch: pytest.MonkeyPatch,
    kill_at: int,
    workers: int,
) -> None:
    source, out = audio_tree(23), tmp_path / "out"
    (tmp_path / "killed.py").write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(tmp_path / "killed.py"), str(kill_at), str(source), str(out), str(workers)]
    assert subprocess.run(command, check=False).returncode == -9
    assert not (out / "corpus.json").exists()
    if kill_at > 10:
        with pytest.raises(UserError, match="only half prepared"):
            open_corpus(out)
    monkeypatch.setattr(parts, "PART_ITEMS", 4)
    finished = {p: p.stat().st_mtime_ns for p in (out / ".parts").glob("0*.json")}
    shards = {
        p: p.stat().st_mtime_ns for p in (out / "audio").glob("0*.wav") if out / ".parts" / f"{p.stem}.json" in finished
    }
    assert len(finished) >= (kill_at // 4 if workers == 1 else kill_at)
    prepare("folder", source, out, progress=False)
    assert {p: p.stat().st_mtime_ns for p in shards} == shards  # what was finished is not done again
    assert folder_bytes(out) == folder_bytes(prepare("folder", source, tmp_path / "straight", progress=False))


def test_a_half_done_corpus_refuses_other_settings_and_sources(
    audio_tree: Tree, tmp_path: Path, write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = audio_tree(10), tmp_path / "out"

    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    whole = prepare_module.write_corpus
    monkeypatch.setattr(prepare_module, "write_corpus", stop)
    with pytest.raises(KeyboardInterrupt):
        prepare("folder", source, out, progress=False)
    monkeypatch.setattr(prepare_module, "write_corpus", whole)
    with pytest.raises(UserError, match="seed=1"):
        prepare("folder", source, out, seed=1, progress=False)
    write_audio(source / "new.wav")
    with pytest.raises(UserError, match="changed since"):
        prepare("folder", source, out, progress=False)
    (source / "new.wav").unlink()
    assert (prepare("folder", source, out, progress=False) / "corpus.json").is_file()


def test_one_preparation_at_a_time(audio_tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "WAIT_SECONDS", 0.1)
    with (
        only_one(tmp_path / "out" / ".parts"),
        pytest.raises(UserError, match="another process is preparing"),
    ):
        prepare("folder", audio_tree(3), tmp_path / "out", progress=False)
    prepare("folder", audio_tree(3), tmp_path / "out", progress=False)


def test_finished_corpora_are_returned_at_once(audio_tree: Tree, tmp_path: Path, folder_bytes: Bytes) -> None:
    source = audio_tree(10)
    out = prepare("folder", source, tmp_path / "out", progress=False)
    before, stamp = folder_bytes(out), (out / "corpus.json").stat().st_mtime_ns
    for path in source.rglob("*.wav"):
        path.unlink()  # a second look at the source would fail
    assert prepare("folder", source, tmp_path / "out", progress=False) == out
    assert folder_bytes(out) == before
    assert (out / "corpus.json").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 3}, r"seed=3 \(was 0\)"),
        ({"pack": False}, r"pack=False \(was True\)"),
        ({"label_from": "parent"}, r"label_from=parent \(was None\)"),
        ({"dev_share": 0.2}, r"dev_share=0.2 \(was None\)"),
    ],
)
def test_other_settings_are_refused_and_named(audio_tree: Tree, tmp_path: Path, change: dict, named: str) -> None:
    source = audio_tree(10)
    prepare("folder", source, tmp_path / "out", progress=False)
    with pytest.raises(UserError, match=named):
        prepare("folder", source, tmp_path / "out", progress=False, **change)


def test_workers_are_no_setting(audio_tree: Tree, tmp_path: Path) -> None:
    source = audio_tree(10)
    prepare("folder", source, tmp_path / "out", progress=False)
    prepare("folder", source, tmp_path / "out", workers=3, progress=False)
