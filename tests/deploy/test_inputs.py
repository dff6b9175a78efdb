"""What names of inputs stand for, and how recordings are cut."""

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.audio import read_audio
from speechssl.data.cuts import Corpus
from speechssl.deploy.inputs import Inputs, open_inputs
from speechssl.deploy.pieces import Windows, pieces, read_ahead
from speechssl.deploy.recordings import AudioFile, called
from speechssl.errors import UserError


def names(found: Inputs, root: Path) -> list[str]:
    return [os.path.relpath(one.name, root) for one in found.recordings if one is not None]


def test_folders_patterns_files_and_lists(recordings: Path) -> None:
    everything = ["ann/1.wav", "ann/2.wav", "bob/1.wav", "bob/2.flac", "broken.wav", "noise.wav"]
    folder = open_inputs(str(recordings))
    assert (folder.total, folder.key, names(folder, recordings)) == (6, "path", everything)
    assert names(open_inputs(f"{recordings}/*.wav"), recordings) == ["broken.wav", "noise.wav"]
    assert names(open_inputs(f"{recordings}/**/*.flac"), recordings) == ["bob/2.flac"]
    assert names(open_inputs(f"{recordings}/noise.wav"), recordings) == ["noise.wav"]
    given = [f"{recordings}/noise.wav", f"{recordings}/ann/1.wav", f"{recordings}/noise.wav"]
    assert names(open_inputs(given), recordings) == ["noise.wav", "ann/1.wav", "noise.wav"]


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a[1].wav", np.zeros(1600), 16000)
    assert names(open_inputs(str(tmp_path / "a[1].wav")), tmp_path) == ["a[1].wav"]


def test_prepared_folders_and_manifests(words: Corpus) -> None:
    found = open_inputs(str(words.path), split="test")
    assert (found.key, found.total) == ("id", 24)
    first = next(iter(found.recordings))
    np.testing.assert_array_equal(first.read(), words.table("test").read(0))
    assert open_inputs(str(words.path)).total == 60 + 24 + 24
    assert open_inputs(str(words.path / "dev.jsonl.gz")).total == 24


@pytest.mark.parametrize(
    ("what", "split", "message"),
    [
        ([], None, "names nothing"),
        (None, None, "names nothing"),
        ("{}/*.mp3", None, "matches no file"),
        ("{}", "test", "is for prepared folders"),
        ("{}/empty", None, "no audio"),
    ],
)
def test_nothing_to_hear_is_told(recordings: Path, what: str | list, split: str | None, message: str) -> None:
    (recordings / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        open_inputs(what.format(recordings) if isinstance(what, str) else what, split)


def test_lines_of_a_pipe_and_its_pauses() -> None:
    """What was written before a pause comes before the pipe ends; empty lines are passed over."""
    reader, writer = os.pipe()
    with open(reader) as pipe, open(writer, "w") as lines:
        found = iter(open_inputs("-", pipe=pipe).recordings)
        lines.write("a.wav\n\nb c.wav\n")
        lines.flush()
        assert [next(found), next(found), next(found)] == [AudioFile("a.wav"), AudioFile("b c.wav"), None]
        threading.Timer(0.3, lambda: (lines.write("d.wav"), lines.close())).start()
        assert list(found)[-1] == AudioFile("d.wav")
    assert list(open_inputs("-", pipe=io.StringIO("")).recordings) == []


@pytest.mark.parametrize("rate", [16000, 44100, 8000, 11025])
def test_an_excerpt_is_the_same_part_of_the_whole(tmp_path: Path, rate: int) -> None:
    generator = np.random.default_rng(0)
    path = str(tmp_path / "noise.wav")
    soundfile.write(path, generator.standard_normal((3 * rate, 2)) * 0.1, rate)
    whole, recording = read_audio(path), AudioFile(path)
    for start, seconds in ((0.0, 1.0), (0.73, 0.5), (2.0, 1.0)):
        first = round(start * 16000)
        expected = whole[first : first + round(seconds * 16000)]
        found = recording.read(start, seconds)
        assert len(found) == len(expected)
        np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=2e-4)


@pytest.mark.parametrize(
    ("windows", "seconds", "expected"),
    [
        (Windows(), 119.0, None),
        (Windows(whole_seconds=60), 130.0, [(0, 60), (60, 120), (120, 130)]),
        (Windows(2.0), 5.0, [(0, 2), (2, 4), (4, 5)]),
        (Windows(2.0), 4.05, [(0, 2), (2, 4)]),  # what is left is shorter than 0.1 s
        (Windows(2.0), 1.0, [(0, 1)]),
        (Windows(4.0, 2.0), 10.0, [(0, 4), (2, 6), (4, 8), (6, 10)]),
        (Windows(4.0, 2.0), 9.0, [(0, 4), (2, 6), (4, 8), (6, 9)]),
        (Windows(1.0, 3.0), 7.0, [(0, 1), (3, 4), (6, 7)]),
    ],
)
def test_windows_by_hand(windows: Windows, seconds: float, expected: list | None) -> None:
    assert windows.of(seconds) == expected


@pytest.mark.parametrize("settings", [(None, 1.0), (0.0, None), (1.0, -1.0), (None, None, 0.0)])
def test_impossible_windows_are_refused(settings: tuple) -> None:
    with pytest.raises(UserError, match="seconds"):
        Windows(*settings)


@pytest.mark.parametrize("num_workers", [0, 3])
def test_pieces_come_in_order_with_what_cannot_be_read_among_them(recordings: Path, num_workers: int) -> None:
    """The broken file is a piece with its reason; a pause comes after all that was named before it."""
    files = list(open_inputs(str(recordings)).recordings)
    planned = pieces([*files[:5], None, files[5]], Windows(0.4))
    found = list(read_ahead(planned, num_workers))
    told = [None if one is None else (os.path.relpath(one.name, recordings), one.number) for one in found]
    place = told.index(None)
    assert told[:place] == sorted(told[:place])
    assert told[place + 1 :] == [("noise.wav", 0), ("noise.wav", 1), ("noise.wav", 2)]
    assert [one.last for one in found if one is not None][-3:] == [False, False, True]
    (broken,) = [one for one in found if one is not None and one.error]
    assert broken.name.endswith("broken.wav")
    assert "cannot be read as audio" in broken.error


def test_pieces_that_are_done_are_left_out(recordings: Path) -> None:
    files = [AudioFile(str(recordings / "noise.wav")), AudioFile(str(recordings / "noise.wav"))]
    found = [piece.number for _, piece in pieces(files, Windows(0.4), skip=2)]
    assert found == [2, 0, 1, 2]


def test_names_in_a_pipe_need_not_be_text() -> None:
    """Whatever the encoding of stdin, and without a line's end after the last one."""
    pipe = io.TextIOWrapper(io.BytesIO(b"a\xff.wav\nb.wav"), encoding="utf-8", errors="strict")
    found = [one for one in open_inputs("-", pipe=pipe).recordings if one is not None]
    assert [os.fsencode(one.name) for one in found] == [b"a\xff.wav", b"b.wav"]


def test_a_pipe_that_is_closed_or_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not waited for without end."""
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="stdin is closed"):
        list(open_inputs("-").recordings)
    closed = io.StringIO("a.wav")
    closed.close()
    with pytest.raises(UserError, match="cannot be read any further"):
        list(open_inputs("-", pipe=closed).recordings)
    with pytest.raises(UserError, match="-print0"):
        list(open_inputs("-", pipe=io.StringIO("a.wav\0b.wav\0")).recordings)


@pytest.mark.parametrize("settings", [("abc",), (1.0, "abc"), (None, None, None), (True,), (float("nan"),)])
def test_windows_that_are_no_numbers_are_refused(settings: tuple) -> None:
    with pytest.raises(UserError, match="expects a number, found"):
        Windows(*settings)


def test_files_of_one_name_are_told_apart_by_their_paths() -> None:
    files = [AudioFile(name) for name in ("a/1.wav", "b/1.wav", "b/2.wav", "b/2.wav")]
    assert called(files) == ["a/1.wav", "b/1.wav", "2", "2"]
