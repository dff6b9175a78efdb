"""Kathbath: languages, speakers from file names, two test sets, transcripts, AAC files."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import registry
from speechssl.data.corpora import kathbath
from speechssl.data.cuts import fold_folders, open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

SPEAKERS = {"train": ("594-f", "973-m"), "valid": ("594-f",), "test_known": ("973-m",), "test": ("12-f",)}
TEXTS = {"hindi": "यह एक वाक्य है", "tamil": "இது ஒரு வாக்கியம்"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy as IndicSUPERB's script converts it, a folder per speaker; Tamil's test set has no transcripts."""
    folder = tmp_path_factory.mktemp("kathbath") / "kb_data_clean_wav"
    rng = np.random.default_rng(0)
    for number, language in enumerate(TEXTS):
        for split, speakers in SPEAKERS.items():
            lines = []
            for take in range(2):
                for speaker in speakers:
                    stem = f"8444249315{number}{list(SPEAKERS).index(split)}{take}-{speaker}"
                    path = folder / language / split / "audio" / speaker.split("-")[0] / f"{stem}.wav"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    soundfile.write(path, 0.1 * rng.standard_normal(4800), 16000, subtype="PCM_16")
                    lines.append(f"{stem}.m4a\t{TEXTS[language]} ")
            if (language, split) != ("tamil", "test"):
                (folder / language / split / "transcription_n2w.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder.parent


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return kathbath.plan(source)


def test_utterances(plan: Preparation) -> None:
    item = next(item for item in plan.items if item.id == "hindi-8444249315000-594-f")
    assert (item.split, item.speaker, item.gender, item.language) == ("train", "hindi-594", "female", "hi")
    assert item.text == TEXTS["hindi"]
    assert len(plan.items) == 20
    assert plan.coverage == {"languages": {"found": 2, "published": 12}}
    splits = {item.id: item.split for item in plan.items}
    assert splits["tamil-8444249315120-973-m"] == ""  # known speakers' test set: only in views


def test_two_test_sets(plan: Preparation) -> None:
    views = {view.folder: view for view in plan.views}
    assert set(views) == {"lid", "lid_known", "sid", "asr/hindi"}  # Tamil's test set has no texts
    assert {split: len(ids) for split, ids in views["lid"].splits.items()} == {"train": 8, "dev": 4, "test": 4}
    assert all("-12-f" in name for name in views["lid"].splits["test"])
    assert all("-973-m" in name for name in views["lid_known"].splits["test"])
    assert views["sid"].splits == views["lid_known"].splits
    speakers = {item.id: item.speaker for item in plan.items}
    train = {speakers[name] for name in views["sid"].splits["train"]}
    assert {speakers[name] for name in views["sid"].splits["test"]} <= train
    assert (views["asr/hindi"].name, views["asr/hindi"].fold) == ("asr-hindi", "")


def test_prepared(source: Path, tmp_path: Path) -> None:
    out = prepare("kathbath", source, tmp_path / "out", progress=False)
    assert {split: len(open_corpus(out).table(split)) for split in ("train", "dev", "test")} == {
        "train": 8,
        "dev": 4,
        "test": 4,
    }
    table = open_corpus(out / "lid").table("test")
    assert sorted(table.column("language")) == ["hi", "hi", "ta", "ta"]
    registry.module("downstream", "lid").TASK(open_corpus(out / "lid")).check()
    registry.module("downstream", "sid").TASK(open_corpus(out / "sid")).check()
    assert fold_folders(out / "asr") == [out / "asr" / "hindi"]
    assert set(open_corpus(out / "asr/hindi").table("train").column("text")) == {TEXTS["hindi"]}


def test_chosen_languages(source: Path, tmp_path: Path) -> None:
    assert {item.language for item in kathbath.plan(source, languages=["tamil"]).items} == {"ta"}
    assert kathbath.plan(source, languages=["tamil"]).coverage["languages"] == {"found": 1, "published": 1}
    with pytest.raises(UserError, match=r"no language 'hindu'; it has bengali, .*nearest: 'hindi'"):
        kathbath.plan(source, languages=["hindu"])
    with pytest.raises(UserError, match=r"no recordings in .*hindi/train/844424931537866-594-f.wav"):
        kathbath.plan(source, languages=["urdu"])


def test_archives_unpacked_as_they_are(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    """Recordings beside the transcripts' archive, in `data`, without folders for speakers."""
    for number, split in enumerate(("train", "valid", "testkn", "testunk")):
        write_audio(tmp_path / "audio" / "data" / "odia" / split / f"8444{number}-1-m.wav", seed=number)
        texts = tmp_path / "texts" / "data" / "odia" / split / "transcription_n2w.txt"
        texts.parent.mkdir(parents=True)
        texts.write_text(f"8444{number}-1-m.m4a\tଏକ ବାକ୍ୟ\n", "utf-8")
    assert all(item.text is None for item in kathbath.plan(tmp_path / "audio").items)
    made = kathbath.plan(tmp_path / "audio", transcripts=str(tmp_path / "texts"))
    assert [item.text for item in made.items] == ["ଏକ ବାକ୍ୟ"] * 4
    assert {view.folder for view in made.views} == {"lid", "lid_known", "sid", "asr/odia"}
    texts.write_text("84443-1-m.m4a ଏକ\n", "utf-8")
    with pytest.raises(UserError, match=r"transcription_n2w.txt: expected a file name, a tab and a text"):
        kathbath.plan(tmp_path / "audio", transcripts=str(tmp_path / "texts"))


def test_aac_has_to_be_converted(
    tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "urdu" / "train"
    write_audio(folder / "84441-1-m.wav")
    write_audio(folder / "notes.wav")
    (folder / "84441-1-m.m4a").touch()
    with caplog.at_level(logging.WARNING):
        assert [item.id for item in kathbath.plan(tmp_path).items] == ["urdu-84441-1-m"]
    assert "notes.wav is left out: expected a name such as" in caplog.text
    (folder / "84442-1-m.m4a").touch()
    with pytest.raises(UserError, match=r"holds 1 m4a files \(AAC\) that cannot be read; convert them.*ffmpeg -i"):
        kathbath.plan(tmp_path)


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"is no copy of Kathbath; expected folders such as hindi/train"):
        kathbath.plan(tmp_path)
    with pytest.raises(UserError, match=r"is no copy of Kathbath"):
        kathbath.plan(tmp_path / "nowhere")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    with pytest.raises(UserError, match=r"Kathbath needs source=: unpack the archives"):
        kathbath.plan()
