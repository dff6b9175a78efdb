"""From names of recordings to rows: order, batches, windows, interruptions, voices and queries."""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from speechssl.data.cuts import Corpus
from speechssl.deploy import job
from speechssl.deploy.answering import Answering
from speechssl.deploy.answers import AnswerFile, Lines, Standard
from speechssl.deploy.pieces import Windows
from speechssl.deploy.predict import predict
from speechssl.deploy.trained import load_trained
from speechssl.errors import UserError
from speechssl.files import read_json

Rows = dict[str, dict[str, Any]]


def answered(run: Path, inputs: str | Sequence[str], **settings: Any) -> list[dict[str, Any]]:
    """The rows on stdout."""
    stream = io.StringIO()
    predict(run, inputs, stream=stream, **settings)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_row_per_file_in_their_order_and_an_error_for_what_is_no_audio(rows: Rows, recordings: Path) -> None:
    found = answered(rows["ks"]["folder"], str(recordings))
    assert [row["path"].removeprefix(f"{recordings}/") for row in found] == [
        "ann/1.wav",
        "ann/2.wav",
        "bob/1.wav",
        "bob/2.flac",
        "broken.wav",
        "noise.wav",
    ]
    assert set(found[4]) == {"path", "task", "error"}
    good = [row for row in found if "error" not in row]
    assert all(set(row) == {"path", "task", "seconds", "label", "score", "scores"} for row in good)
    assert all(row["scores"][row["label"]] == row["score"] == max(row["scores"].values()) for row in good)
    assert found[5]["seconds"] == 1.0
    both = answered(rows["ks"]["folder"], [str(recordings / "noise.wav"), str(recordings / "ann/1.wav")], top=1)
    assert [row["path"] for row in both] == [str(recordings / "noise.wav"), str(recordings / "ann/1.wav")]
    assert all(len(row["scores"]) == 1 for row in both)


@pytest.mark.parametrize("task", ["asr", "sd", "ic"])
def test_answers_do_not_depend_on_batches(
    rows: Rows, everything: Corpus, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one and read in this thread, or all at once and read by three others."""
    alone = answered(rows[task]["folder"], str(everything.path), split="test", max_seconds=0.1, num_workers=0)
    monkeypatch.setattr(job, "GROUP_PIECES", 5)
    together = answered(rows[task]["folder"], str(everything.path), split="test", max_seconds=60.0, num_workers=3)
    assert len(alone) == len(everything.table("test"))
    assert_close(alone, together)


def assert_close(one: Any, other: Any) -> None:
    """Assert that two answers are the same up to rounding in scores."""
    if isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    elif isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    else:
        assert one == other


def test_windows_have_rows_of_their_own_with_times_of_the_recording(rows: Rows, recordings: Path) -> None:
    noise, run = str(recordings / "noise.wav"), rows["sd"]["folder"]
    found = answered(run, noise, windows=Windows(0.5, 0.25), threshold=0.0)
    assert [(row["start"], row["end"]) for row in found] == [(0.0, 0.5), (0.25, 0.75), (0.5, 1.0)]
    for row in found:
        assert row["seconds"] == 0.5
        times = [(one["start"], one["end"]) for one in row["segments"]]
        assert times, "above a threshold of 0 everybody speaks"
        assert all(row["start"] <= start < end <= row["end"] for start, end in times)


def test_what_is_too_long_is_answered_in_windows_and_said(
    rows: Rows, recordings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = answered(rows["ks"]["folder"], str(recordings / "noise.wav"), windows=Windows(whole_seconds=0.6))
    assert [(row["start"], row["end"]) for row in found] == [(0.0, 0.6), (0.6, 1.0)]
    assert "answered in windows of 0.6 s" in caplog.text


def test_csv_has_a_column_for_every_field(rows: Rows, recordings: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    predict(rows["asr"]["folder"], str(recordings), out, format="csv")
    with open(out, newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == ["path", "task", "seconds", "start", "end", "text", "score", "segments", "error"]
    expected = answered(rows["asr"]["folder"], str(recordings))
    for cells, row in zip(found, expected, strict=True):
        assert cells["path"] == row["path"]
        assert cells["text"] == row.get("text", "")
        assert cells["error"] == row.get("error", "")
        assert json.loads(cells["segments"] or "null") == row.get("segments")


def test_a_killed_run_goes_on_where_it_was(
    rows: Rows, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a recording, and of a line; what was answered is not asked again."""
    run, whole, out = rows["ks"]["folder"], tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    settings: dict[str, Any] = {"windows": Windows(0.4), "num_workers": 0}
    predict(run, str(recordings), whole, **settings)
    monkeypatch.setattr(job, "GROUP_PIECES", 2)
    asked = stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        predict(run, str(recordings), out, **settings)
    assert not out.exists()
    part = tmp_path / "answers.jsonl.part"
    notes = read_json(tmp_path / "answers.jsonl.part.json")
    assert notes["pieces"] or notes["inputs"]
    with open(part, "a") as file:
        file.write('{"path": "half a li')
    before = len(asked)
    monkeypatch.undo()
    asked = stop_after(monkeypatch, 1000)
    predict(run, str(recordings), out, **settings)
    assert out.read_text() == whole.read_text()
    assert len(asked) + before == len(whole.read_text().splitlines()) - 1  # all but the broken file, each once
    assert sorted(path.name for path in tmp_path.glob("answers*")) == ["answers.jsonl"]


def stop_after(monkeypatch: pytest.MonkeyPatch, calls: int) -> list[int]:
    """Stop like Ctrl-C after so many groups; return one entry for every piece that was answered."""
    asked: list[int] = []
    original = Answering._in_batches
    groups = [0]

    def counted(self: Answering, pieces: Sequence[Any], ask: Any) -> list[Any]:
        groups[0] += 1
        if groups[0] > calls:
            raise KeyboardInterrupt
        asked.extend([1] * len(pieces))
        return original(self, pieces, ask)

    monkeypatch.setattr(Answering, "_in_batches", counted)
    return asked


def test_a_part_of_something_else_is_not_gone_on_with(
    rows: Rows, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = tmp_path / "answers.jsonl", rows["ks"]["folder"]
    files = [str(recordings / name) for name in ("ann/1.wav", "ann/2.wav", "bob/1.wav")]
    monkeypatch.setattr(job, "GROUP_PIECES", 1)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        predict(run, files, out)
    monkeypatch.undo()
    with pytest.raises(UserError, match="begun with another run or other settings"):
        predict(run, files, out, top=2)
    with pytest.raises(UserError, match="begun with other inputs"):
        predict(run, files[::-1], out)
    predict(run, files, out, top=2, overwrite=True)
    assert len(out.read_text().splitlines()) == 3
    with pytest.raises(UserError, match="exists; give another place, or overwrite=true"):
        predict(run, files, out)


def test_two_at_once_do_not_write_one_file(tmp_path: Path) -> None:
    first = AnswerFile(tmp_path / "a.jsonl", Lines("jsonl", []), {})
    with pytest.raises(UserError, match="is being written by another process"):
        AnswerFile(tmp_path / "a.jsonl", Lines("jsonl", []), {}, overwrite=True)
    first.finish()
    assert (tmp_path / "a.jsonl").read_text() == ""


def test_a_part_that_is_gone_is_begun_anew(
    rows: Rows, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, run = tmp_path / "answers.jsonl", rows["ks"]["folder"]
    monkeypatch.setattr(job, "GROUP_PIECES", 2)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        predict(run, str(recordings), out)
    monkeypatch.undo()
    (tmp_path / "answers.jsonl.part").write_text("")
    predict(run, str(recordings), out)
    assert len(out.read_text().splitlines()) == 6


def test_another_recording_is_not_gone_on_with_in_the_middle(
    rows: Rows, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the first recording was answered whole: the windows of another are not put behind its."""
    out, run, settings = tmp_path / "answers.jsonl", rows["ks"]["folder"], {"windows": Windows(0.2)}
    monkeypatch.setattr(job, "GROUP_PIECES", 2)
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        predict(run, str(recordings / "noise.wav"), out, **settings)
    monkeypatch.undo()
    assert read_json(tmp_path / "answers.jsonl.part.json")["pieces"] == 2
    with pytest.raises(UserError, match="begun with other inputs"):
        predict(run, str(recordings / "ann/1.wav"), out, **settings)
    predict(run, str(recordings / "noise.wav"), out, **settings)
    found = [json.loads(line)["start"] for line in out.read_text().splitlines()]
    assert found == [0.0, 0.2, 0.4, 0.6, 0.8]


def test_names_that_are_no_text_are_written_where_they_cannot_be_read(rows: Rows, tmp_path: Path) -> None:
    broken = os.fsdecode(os.fsencode(tmp_path) + b"/no\xfftext.wav")
    Path(broken).write_bytes(b"no sound")
    soundfile.write(tmp_path / "sound.wav", [0.1] * 8000, 16000)
    predict(rows["ks"]["folder"], str(tmp_path), tmp_path / "answers" / "a.jsonl")
    first, second = map(json.loads, (tmp_path / "answers" / "a.jsonl").read_text("utf-8").splitlines())
    assert first["path"].endswith("no\\udcfftext.wav")
    assert first["path"] in first["error"]
    assert "label" in second


def test_rows_are_utf8_whatever_stdout_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    Standard(Lines("jsonl", [])).write([{"path": "\u97f3.wav"}], 1, 0)
    assert written.getvalue().decode("utf-8") == '{"path": "\u97f3.wav"}\n'


def test_cells_may_hold_anything() -> None:
    values = ["a,b", 'say "no"', "two\nlines", "old\rlines", "\u97f3", None]
    lines = Lines("csv", list("abcdef"))
    text = lines.header() + lines.line(dict(zip("abcdef", values, strict=True)))
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert list(row.values()) == [*values[:-1], ""]


def test_a_folder_is_no_file_to_write(rows: Rows, recordings: Path) -> None:
    with pytest.raises(UserError, match=r"out=.* is a folder; give the file to write, such as .*answers.jsonl"):
        predict(rows["ks"]["folder"], str(recordings), recordings, overwrite=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("task", ["ks", "ic", "asr", "ner", "sd", "asv", "qbe", "aec"])
def test_answers_on_a_gpu_are_those_on_the_cpu(rows: Rows, everything: Corpus, task: str) -> None:
    settings: dict[str, Any] = {"split": "test"}
    if task == "qbe":
        table = everything.table("test")
        settings["against"] = str(table.audio_of(0)[0])
    one, other = (answered(rows[task]["folder"], str(everything.path), device=d, **settings) for d in ("cpu", "cuda"))
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert_close(a, b)


def test_paths_from_a_pipe(rows: Rows, recordings: Path) -> None:
    pipe = io.StringIO(f"{recordings}/noise.wav\n{recordings}/absent.wav\n")
    found = answered(rows["ks"]["folder"], "-", pipe=pipe)
    assert found[0]["seconds"] == 1.0
    assert "does not exist" in found[1]["error"]
    assert answered(rows["ks"]["folder"], "-", pipe=io.StringIO("")) == []


def test_nothing_that_could_be_answered_is_an_error(rows: Rows, recordings: Path) -> None:
    stream = io.StringIO()
    with pytest.raises(UserError, match=r"not one of 1 recordings could be answered; the first: .*broken.wav"):
        predict(rows["ks"]["folder"], str(recordings / "broken.wav"), stream=stream)
    assert "error" in json.loads(stream.getvalue())


def test_a_number_that_is_not_finite_is_an_error_of_its_row(rows: Rows, recordings: Path) -> None:
    soundfile.write(recordings / "loud.wav", [1e30, -1e30] * 4000, 16000, subtype="DOUBLE")
    found = answered(rows["ks"]["folder"], [str(recordings / "loud.wav"), str(recordings / "noise.wav")])
    assert "label" in found[1]
    assert ("label" in found[0]) != ("error" in found[0])


def test_voices_that_are_enrolled_are_recognised(rows: Rows, recordings: Path) -> None:
    run = rows["asv"]["folder"]
    (plain,) = answered(run, str(recordings / "ann/1.wav"))
    assert sum(value * value for value in plain["embedding"]) == pytest.approx(1.0, abs=1e-4)
    (recordings / "broken.wav").unlink()
    enrolled = [str(recordings / "ann/1.wav"), str(recordings / "noise.wav")]
    first, second = answered(run, enrolled, against=enrolled)
    assert (first["label"], second["label"]) == ("1", "noise")  # files are called what they are called
    assert first["score"] == pytest.approx(1.0, abs=1e-5)
    assert first["accepted"] is True
    (row,) = answered(run, str(recordings / "ann/1.wav"), against=str(recordings), threshold=1.1)
    assert set(row["scores"]) == {"ann", "bob", "noise"}  # folders are voices
    assert row["accepted"] is False
    assert "embedding" not in row


def test_voices_whose_files_have_one_name_stay_apart(rows: Rows, recordings: Path) -> None:
    enrolled = [str(recordings / name) for name in ("ann/1.wav", "bob/1.wav")]
    found = answered(rows["asv"]["folder"], enrolled, against=enrolled)
    assert [row["label"] for row in found] == enrolled


def test_enrolled_utterances_of_a_corpus_are_called_by_their_speaker(rows: Rows, everything: Corpus) -> None:
    (row, *_) = answered(rows["asv"]["folder"], str(everything.path), split="test", against=str(everything.path))
    assert set(row["scores"]) == set(everything.table("test").column("speaker"))


def test_a_query_is_found_in_the_recording_it_was_cut_from(rows: Rows, everything: Corpus, tmp_path: Path) -> None:
    table, run = everything.table("test"), rows["qbe"]["folder"]
    folder = tmp_path / "documents"
    folder.mkdir()
    for number in range(4):
        soundfile.write(folder / f"{number}.wav", table.read(number), 16000)
    audio = table.read(2)
    soundfile.write(tmp_path / "query.wav", audio[3200:8000], 16000)
    found = answered(run, str(folder), against=str(tmp_path / "query.wav"))
    best = max(found, key=lambda row: row["score"])
    assert best["path"].endswith("2.wav")
    (match,) = best["segments"]
    assert match["label"] == "query"
    assert match["start"] == pytest.approx(0.2, abs=0.05)
    assert match["end"] == pytest.approx(0.5, abs=0.05)
    assert sum(row["score"] for row in found) == pytest.approx(0.0, abs=1e-4)  # compared with each other
    for row in found:
        assert all(one["start"] <= one["end"] <= row["seconds"] for one in row["segments"])
    (alone,) = answered(run, str(folder / "2.wav"), against=str(tmp_path / "query.wav"))
    assert alone["score"] is None
    assert alone["segments"][0]["cost"] < 0.2


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("qbe", {}, "name them: against=FILES"),
        ("qbe", {"threshold": 0.3}, "leave threshold= out"),
        ("ks", {"against": "{}"}, "task ks has neither"),
        ("ks", {"threshold": 0.3}, "decides by no threshold"),
        ("sd", {"threshold": "high"}, "threshold expects a number, found 'high'"),
        ("ks", {"top": 0}, "top expects at least 1"),
        ("ks", {"max_seconds": 0.0}, "max_seconds must be positive"),
        ("ks", {"num_workers": -1}, "num_workers expects"),
        ("ks", {"format": "json"}, "nearest: 'jsonl'"),
        ("asv", {"against": "{}/broken.wav"}, "cannot be read as audio"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    rows: Rows, recordings: Path, task: str, settings: dict, message: str
) -> None:
    given = {name: v.format(recordings) if isinstance(v, str) else v for name, v in settings.items()}
    with pytest.raises(UserError, match=message):
        answered(rows[task]["folder"], str(recordings), **given)


def test_labels_above_a_threshold(rows: Rows, recordings: Path) -> None:
    (row,) = answered(rows["aec"]["folder"], str(recordings / "noise.wav"), threshold=-0.1)
    assert row["labels"] == list(row["scores"])
    (row,) = answered(rows["aec"]["folder"], str(recordings / "noise.wav"), threshold=1.0)
    assert row["labels"] == []


def test_one_label_is_decided_by_no_threshold(rows: Rows) -> None:
    trained = load_trained(rows["aec"]["folder"])
    trained.task.multi_label = False
    with pytest.raises(UserError, match="aec decides by no threshold"):
        Answering(trained, "path", threshold=0.3)


def test_a_language_model_that_is_gone_is_a_warning(
    rows: Rows, recordings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = load_trained(rows["asr"]["folder"])
    trained.task.lm, trained.task.lexicon = "gone.arpa", "gone.txt"
    trained.choices["language_model"] = True
    (answer,) = Answering(trained, "path").answers([next(iter(trained.model.parameters())).new_zeros(8000)])
    assert "text_lm" not in answer
    assert "answers come without the language model" in caplog.text
