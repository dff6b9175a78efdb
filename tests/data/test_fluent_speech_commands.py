"""Fluent Speech Commands: official splits, intents of three slots, speakers."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import fluent_speech_commands
from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

HEADER = ",path,speakerId,transcription,action,object,location"
ROWS = {
    "train": [
        ("2BqVo8kVB2Skwgyb", "0a31", "Turn on the lights", "activate", "lights", "none"),
        ("2BqVo8kVB2Skwgyb", "0b32", '"Increase the temperature, please"', "increase", "heat", "none"),
        ("Z7BXPnplxGUjZdmBZ", "0a31", "Lights off in the kitchen", "deactivate", "lights", "kitchen"),
    ],
    "valid": [("anvKyBjB5OiP5dYZ", "11", "Bring me the newspaper", "bring", "newspaper", "none")],
    "test": [("4BrX8aDqK2cLZRYl", "21", "Kitchen heat up", "increase", "heat", "kitchen")],
}
SPEAKERS = (
    "speakerId,Self-reported fluency level ,First Language spoken,Current language used for work/school,"
    "gender,ageRange\n"
    "2BqVo8kVB2Skwgyb,native,English (Canada),English (Canada),female,22-40\n"
    "Z7BXPnplxGUjZdmBZ,advanced,French (Canada),English (Canada),male,41-65\n"
)


@pytest.fixture
def source(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    root = tmp_path / "copy" / "fluent_speech_commands_dataset"
    (root / "data").mkdir(parents=True)
    for split, rows in ROWS.items():
        lines = [HEADER]
        for number, (speaker, name, *labels) in enumerate(rows):
            path = f"wavs/speakers/{speaker}/{name}.wav"
            lines.append(",".join([str(number), path, speaker, *labels]))
            write_audio(root / path, 0.3, seed=number)
        (root / "data" / f"{split}_data.csv").write_text("\n".join(lines) + "\n")
    (root / "data" / "speaker_demographics.csv").write_text(SPEAKERS)
    return root.parent


def test_prepared(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (source / "fluent_speech_commands_dataset/wavs/speakers/2BqVo8kVB2Skwgyb/0b32.wav").unlink()
    with caplog.at_level(logging.WARNING):
        out = prepare("fluent_speech_commands", source, tmp_path / "out", progress=False)
    assert (
        "fluent_speech_commands is incomplete: 2 train of 23132, 1 dev of 3118, 1 test of 3793, 0 of test"
        in caplog.text
    )
    corpus, view = open_corpus(out), open_corpus(out / "ic")
    assert (view.name, view.view, view.fold) == ("fluent_speech_commands", "ic", "")
    assert [skipped["id"] for skipped in corpus.info["skipped"]] == ["2BqVo8kVB2Skwgyb-0b32"]
    for opened in (corpus, view):
        assert {split: len(opened.table(split)) for split in opened.splits} == {"train": 2, "dev": 1, "test": 1}
    train = view.table("train")
    row = train.ids.index("Z7BXPnplxGUjZdmBZ-0a31")  # the file of the other speaker has the same name
    assert train.column("intent")[row] == {"action": "deactivate", "object": "lights", "location": "kitchen"}
    assert [train.column(name)[row] for name in ("speaker", "gender", "accent", "text", "language")] == [
        "Z7BXPnplxGUjZdmBZ",
        "male",
        "French (Canada)",
        "Lights off in the kitchen",
        "en",
    ]
    assert view.table("test").column("gender") == [None]  # not in the table of speakers
    assert "Fluent Speech Commands Public License" in corpus.info["licence"]


def test_sentences_of_test_that_were_trained_on_are_counted(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    lists = source / "fluent_speech_commands_dataset" / "data"
    table = (lists / "test_data.csv").read_text()
    (lists / "test_data.csv").write_text(table.replace("Kitchen heat up", "Turn on the lights"))
    fluent_speech_commands.plan(source)
    assert "1 of test say a sentence that is also in train" in caplog.text


def test_quotes_and_missing_speakers(source: Path) -> None:
    root = source / "fluent_speech_commands_dataset"
    (root / "data" / "speaker_demographics.csv").unlink()
    plan = fluent_speech_commands.plan(root)
    assert plan.items[1].text == "Increase the temperature, please"
    assert all(item.gender is None and item.custom.keys() == {"intent"} for item in plan.items)


def test_wrong_folders(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no data/train_data\.csv; expected a copy .*fluent\.ai"):
        fluent_speech_commands.plan(tmp_path)
    root = source / "fluent_speech_commands_dataset"
    (root / "data" / "test_data.csv").rename(root / "data" / "test.csv")
    with pytest.raises(UserError, match=r"test_data\.csv cannot be read as CSV"):
        fluent_speech_commands.plan(source)
    (root / "data" / "test.csv").rename(root / "data" / "test_data.csv")
    (root / "wavs").rename(root / "audio")
    with pytest.raises(UserError, match=r"none of the 5 recordings of the lists is in .*wavs; unpack it whole"):
        fluent_speech_commands.plan(source)
