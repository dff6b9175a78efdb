import gzip
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lhotse
import numpy as np
import pytest
import soundfile
from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment

from speechssl.audio import read_audio
from speechssl.data.cuts import fold_folders, open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import AudioError, UserError

Write = Callable[..., Path]


def table_of(cuts: list, path: Path):
    CutSet.from_cuts(cuts).to_file(path)
    return open_corpus(path).table("train")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl", "a.json", "a.yaml"])
def test_every_manifest_format_of_lhotse(tmp_path: Path, write_audio: Write, name: str) -> None:
    recording = Recording.from_file(write_audio(tmp_path / "x.flac", 1.0))
    cut = recording.to_cut()
    cut.supervisions = [
        SupervisionSegment("s", recording.id, 0.0, 1.0, text="HELLO", speaker="ann", custom={"mood": "calm"})
    ]
    cut.keyword = "yes"
    table = table_of([cut], tmp_path / name)
    assert open_corpus(tmp_path / name).name == "a"
    assert table.ids == [cut.id]
    assert table.num_samples.tolist() == [16000]
    assert [table.column(c) for c in ("text", "speaker", "mood", "keyword", "gender", "nothing")] == [
        ["HELLO"],
        ["ann"],
        ["calm"],
        ["yes"],
        [None],
        [None],
    ]
    np.testing.assert_array_equal(table.read(0), soundfile.read(tmp_path / "x.flac", dtype="float32")[0])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_excerpts_equal_the_same_part_of_the_whole(tmp_path: Path, write_audio: Write, rate: int) -> None:
    """Also across the resampler: the excerpt is read with a margin and on a common grid."""
    whole = Recording.from_file(write_audio(tmp_path / "x.flac", 3.0, rate)).to_cut()
    table = table_of([whole.truncate(offset=0.5, duration=2.2)], tmp_path / "a.jsonl.gz")
    everything = table.read(0)
    assert everything.dtype == np.float32
    assert len(everything) == table.num_samples[0] == 35200
    for start, count in [(0, 35200), (0, 1600), (12345, 4321), (12345, 1), (35199, 1), (30000, 5200)]:
        np.testing.assert_allclose(table.read(0, start, count), everything[start : start + count], atol=1e-5)


def test_excerpts_outside_the_utterance_are_refused(tmp_path: Path, write_audio: Write) -> None:
    table = table_of([Recording.from_file(write_audio(tmp_path / "x.wav", 1.0)).to_cut()], tmp_path / "a.jsonl.gz")
    for start, count in [(-1, 5), (0, 16001), (16000, 1), (5, 0)]:
        with pytest.raises(UserError, match="has 16000 samples"):
            table.read(0, start, count)


def test_mixed_rates_all_come_out_at_16_khz(tmp_path: Path, write_audio: Write) -> None:
    rates = (8000, 16000, 22050, 44100)
    cuts = [Recording.from_file(write_audio(tmp_path / f"{r}.wav", 1.5, r)).to_cut() for r in rates]
    table = table_of(cuts, tmp_path / "a.jsonl.gz")
    assert table.num_samples.tolist() == [24000] * 4
    for row, rate in enumerate(rates):
        np.testing.assert_allclose(table.read(row), read_audio(tmp_path / f"{rate}.wav"), atol=1e-6)


def test_channels(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "x.wav", 1.0, channels=3)
    samples = soundfile.read(path, dtype="float32")[0]
    recording = Recording.from_file(path)
    multi = recording.to_cut()
    pair = lhotse.MultiCut("pair", 0.0, 1.0, [0, 2], recording=recording)
    cuts = [multi, MonoCut("second", 0.0, 1.0, 1, recording=recording), pair]
    table = table_of(cuts, tmp_path / "a.jsonl.gz")
    np.testing.assert_allclose(table.read(0), samples.mean(1), atol=1e-6)
    np.testing.assert_array_equal(table.read(1), samples[:, 1])
    np.testing.assert_allclose(table.read(2, 100, 50), samples[100:150, [0, 2]].mean(1), atol=1e-6)


def test_what_only_lhotse_can_read(tmp_path: Path, write_audio: Write) -> None:
    a, b = (
        Recording.from_file(write_audio(tmp_path / f"{n}.wav", s, seed=seed)).to_cut()
        for n, s, seed in (("a", 1.0, 1), ("b", 0.7, 2))
    )
    mixed = a.append(b).with_id("mixed")
    faster = a.perturb_speed(1.1).with_id("faster")
    padded = b.pad(duration=1.0).with_id("padded")
    table = table_of([mixed, faster, padded], tmp_path / "m.jsonl.gz")
    assert table.ids == ["mixed", "faster", "padded"]
    for row, cut in enumerate([mixed, faster, padded]):
        expected = cut.load_audio()[0]
        assert len(expected) == table.num_samples[row]
        np.testing.assert_allclose(table.read(row), expected, atol=1e-6)
        np.testing.assert_allclose(table.read(row, 500, 700), expected[500:1200], atol=1e-6)
        assert table.rms(row) is None


def test_relative_sources_of_foreign_cuts(tmp_path: Path, write_audio: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "audio" / "a.wav", 0.5)
    monkeypatch.chdir(tmp_path)
    cut = Recording.from_file("audio/a.wav").to_cut()
    cuts = [cut.with_id("plain"), cut.append(cut).with_id("mixed")]
    beside = table_of(cuts, tmp_path / "beside.jsonl.gz")
    (tmp_path / "sub").mkdir()
    below = table_of(cuts, tmp_path / "sub" / "below.jsonl.gz")  # lhotse's own rule: relative to the current folder
    assert [len(below.read(row)) for row in (0, 1)] == [8000, 16000]
    monkeypatch.chdir("/")
    assert [len(beside.read(row)) for row in (0, 1)] == [8000, 16000]


def test_no_mirrored_tails(tmp_path: Path, write_audio: Write) -> None:
    """By default lhotse fills up to half a second of missing audio with its mirror image."""
    path = write_audio(tmp_path / "x.wav", 1.0)
    cut = Recording.from_file(path).to_cut()
    table = table_of([cut.with_id("plain"), cut.append(cut).with_id("mixed")], tmp_path / "a.jsonl.gz")
    write_audio(path, 0.8)  # shorter now, and a correct file by itself
    for row in (0, 1):
        with pytest.raises(AudioError):
            table.read(row)


def test_rounded_durations_are_filled_with_at_most_10_ms(tmp_path: Path, write_audio: Write) -> None:
    path = write_audio(tmp_path / "x.wav", 1.0)
    recording = Recording.from_file(path)
    write_audio(path, 0.995)
    table = table_of([recording.to_cut()], tmp_path / "a.jsonl.gz")
    samples = table.read(0)
    assert len(samples) == 16000
    assert not samples[15920:].any()
    assert samples[:15920].any()


def test_missing_damaged_and_not_finite_audio(tmp_path: Path, write_audio: Write) -> None:
    cuts = [Recording.from_file(write_audio(tmp_path / f"{n}.wav", 1.0)).to_cut() for n in ("gone", "torn", "nan")]
    table = table_of(cuts, tmp_path / "a.jsonl.gz")
    (tmp_path / "gone.wav").unlink()
    (tmp_path / "torn.wav").write_bytes((tmp_path / "torn.wav").read_bytes()[:20000])
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    for row, reason in enumerate(("gone.wav", "truncated", "NaN")):
        with pytest.raises(AudioError, match=reason):
            table.read(row)


def test_selection_keeps_everything(tmp_path: Path, write_audio: Write) -> None:
    cuts = [Recording.from_file(write_audio(tmp_path / f"{i}.flac", 0.5 + i / 10, seed=i)).to_cut() for i in range(5)]
    for i, cut in enumerate(cuts):
        cut.label = f"label {i}"
    cuts[3] = cuts[3].append(cuts[0]).with_id("mixed")
    table = table_of(cuts, tmp_path / "a.jsonl.gz")
    chosen = table.select([3, 1, 4]).select(np.array([2, 0]))
    assert chosen.ids == [table.ids[4], "mixed"]
    assert len(chosen) == 2
    assert chosen.num_samples.tolist() == [table.num_samples[4], table.num_samples[3]]
    assert chosen.column("label") == ["label 4", "label 3"]
    np.testing.assert_array_equal(chosen.read(0), table.read(4))
    np.testing.assert_array_equal(chosen.read(1, 10, 20), table.read(3)[10:30])


def test_supervisions_are_summed_up(tmp_path: Path, write_audio: Write) -> None:
    recording = Recording.from_file(write_audio(tmp_path / "x.wav", 1.0))
    cut = recording.to_cut()
    cut.supervisions = [
        SupervisionSegment("1", recording.id, 0.0, 0.5, text="ONE", speaker="ann", language="en"),
        SupervisionSegment("2", recording.id, 0.5, 0.5, text="TWO", speaker="bob", language="en"),
    ]
    table = table_of([cut], tmp_path / "a.jsonl.gz")
    assert [table.column(c)[0] for c in ("text", "speaker", "language")] == ["ONE TWO", None, "en"]


def test_a_foreign_rms_in_other_units_is_not_believed(tmp_path: Path, write_audio: Write) -> None:
    cuts = []
    for i, value in enumerate((-23.0, "loud", 0.1, 12.0)):
        cut = Recording.from_file(write_audio(tmp_path / f"{i}.wav", 0.5)).to_cut()
        cut.rms = value
        cuts.append(cut)
    table = table_of(cuts, tmp_path / "a.jsonl.gz")
    assert [table.rms(row) for row in range(4)] == [None, None, 0.1, None]


def test_zero_durations_are_reported_and_left_out(
    tmp_path: Path, write_audio: Write, caplog: pytest.LogCaptureFixture
) -> None:
    cut = Recording.from_file(write_audio(tmp_path / "x.wav", 1.0)).to_cut()
    lines = [json.dumps(c.to_dict() | extra) for c, extra in ((cut, {}), (cut, {"id": "nothing", "duration": 0.0}))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    with caplog.at_level(logging.WARNING):
        assert len(open_corpus(tmp_path / "a.jsonl").table("train")) == 1
    assert "1 cuts have no duration and are left out (nothing" in caplog.text


def write_lines(path: Path, *lines: str) -> Path:
    with gzip.open(path, "wt") as file:
        file.writelines(line + "\n" for line in lines)
    return path


def test_wrong_manifests_are_one_clear_line(tmp_path: Path, write_audio: Write) -> None:
    recording = Recording.from_file(write_audio(tmp_path / "x.wav", 1.0))
    line = json.dumps(recording.to_cut().to_dict())
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl.gz")
    write_lines(tmp_path / "twice.jsonl.gz", line, line)
    write_lines(tmp_path / "empty.jsonl.gz")
    write_lines(tmp_path / "torn_line.jsonl.gz", line, line[:50])
    whole = write_lines(tmp_path / "torn_file.jsonl.gz", line).read_bytes()
    (tmp_path / "torn_file.jsonl.gz").write_bytes(whole[:60])
    (tmp_path / "not_gzip.jsonl.gz").write_text(line)
    features = json.dumps({"id": "f", "start": 0, "duration": 1.0, "channel": 0, "type": "MonoCut"})
    write_lines(tmp_path / "features.jsonl.gz", features)
    messages = {
        "recordings.jsonl.gz": "line 1: expected a lhotse cut",
        "twice.jsonl.gz": "occurs twice",
        "empty.jsonl.gz": "holds no cuts",
        "torn_line.jsonl.gz": "damaged at or after line 2",
        "torn_file.jsonl.gz": "damaged",
        "not_gzip.jsonl.gz": "damaged",
        "features.jsonl.gz": "no recording",
        "x.wav": "no cut manifest",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as caught:
            open_corpus(tmp_path / name).table("train")
        assert "\n" not in str(caught.value)


def test_wrong_folders_are_one_clear_line(tmp_path: Path, audio_tree: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="does not exist"):
        open_corpus(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no manifests; make them"):
        open_corpus(audio_tree(1))
    corpus = open_corpus(prepare("folder", audio_tree(3), tmp_path / "out", progress=False))
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        corpus.table("test")
    info = json.loads((corpus.path / "corpus.json").read_text())
    (corpus.path / "corpus.json").write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(UserError, match="has format 99"):
        open_corpus(corpus.path)


def test_a_folder_of_folds_means_all_of_them_in_order(tmp_path: Path) -> None:
    folds = tmp_path / "out" / "folds"
    names = ["fold1", "fold2", "fold10"]
    for name in names:
        (folds / name).mkdir(parents=True)
        (folds / name / "corpus.json").write_text("{}")
    (folds / ".DS_Store").touch()
    assert fold_folders(folds) == [folds / name for name in names]
    assert fold_folders(str(folds / "fold2")) == [folds / "fold2"]
    assert fold_folders(tmp_path / "out") == [tmp_path / "out"]
    assert fold_folders(tmp_path / "nowhere") == [tmp_path / "nowhere"]
    (tmp_path / "out" / ".parts").mkdir()
    with pytest.raises(UserError, match="half prepared"):
        fold_folders(folds)
    (tmp_path / "out" / "corpus.json").write_text("{}")
    (folds / "audio").mkdir()  # something else lies there as well
    assert fold_folders(folds) == [folds]


def test_fingerprint_of_bare_manifests_ignores_where_files_lie(tmp_path: Path, write_audio: Write) -> None:
    prints = []
    for place, label in (("one", "x"), ("two", "x"), ("three", "y")):
        cut = Recording.from_file(write_audio(tmp_path / place / "a.wav", 1.0)).to_cut()
        cut.label = label
        CutSet.from_cuts([cut.with_id("a")]).to_file(tmp_path / place / "corpus.jsonl.gz")
        prints.append(open_corpus(tmp_path / place / "corpus.jsonl.gz").fingerprint)
    assert prints[0] == prints[1] != prints[2]


def test_our_own_corpora_need_no_lhotse_and_tables_no_torch(tmp_path: Path, audio_tree: Callable[..., Path]) -> None:
    out = prepare("folder", audio_tree(5), tmp_path / "out", progress=False)
    code = (
        "import sys; from speechssl.data.cuts import open_corpus\n"
        "open_corpus(sys.argv[1]).table('train').read(0)\n"
        "sys.exit('lhotse' in sys.modules or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=True)
