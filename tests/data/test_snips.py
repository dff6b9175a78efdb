"""Audio SNIPS: both layouts, voices per split, slots as spans of spoken words."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from speechssl.data.corpora import snips
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Item, Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

EVERY_VOICE = [voice for voices in snips.VOICES.values() for voice in voices]
ORDERS = {  # words, tags and intent as s3prl spells them out
    "snips-train-0": (
        "ADD SABRINA SALERNO TO THE R & B PLAYLIST",
        "O artist artist O O playlist playlist playlist O",
        "AddToPlaylist",
    ),
    "snips-train-1": ("PLAY , MADONNA !", "O O artist O", "PlayMusic"),
    "snips-valid-0": ("WHAT'S THE WEATHER", "O O O", "GetWeather"),
    "snips-test-10": (
        "IN TATNAI KANSAS NEXT YEAR",
        "O city state timeRange timeRange",
        "GetWeather",
    ),
}
HEADER = "u_id\tutterance\tslot-labels\tintent"
ORIGINAL = {
    "train": [
        "snips-train-0\tadd sabrina salerno to the r & b playlist\tO AddToPlaylist/artist AddToPlaylist/artist O O "
        "AddToPlaylist/playlist AddToPlaylist/playlist AddToPlaylist/playlist O\tAddToPlaylist",
        'snips-train-1\tplay  "madonna\tO O PlayMusic/artist\tPlayMusic',  # an empty word, with a tag
    ],
    "valid": ["snips-valid-0\twhat 's the weather\tO O O O\tGetWeather"],
    "test": ["snips-test-10\twill it rain on the 5th\tO O O O GetWeather/timeRange GetWeather/timeRange\tGetWeather"],
}


def recordings(name: str) -> Iterator[tuple[str, str]]:
    """Return each voice that says an order, and the split's folder: all sixteen say everything."""
    return ((voice, name.split("-")[1]) for voice in EVERY_VOICE)


def spelt_out(root: Path, write: Callable[[Path], object], voices: list[str] = EVERY_VOICE) -> Path:
    """Make s3prl's layout."""
    root.mkdir()
    lines = []
    for name, (words, tags, intent) in ORDERS.items():
        for voice, folder in recordings(name):
            lines.append(f"{voice}-{name} BOS {words} EOS\tO {tags} {intent}")
            if voice in voices:
                write(root / folder / f"{voice}-{name}.wav")
    (root / "all.iob.snips.txt").write_text("\n".join(lines) + "\n")
    (root / "slots.txt").write_text("O\nartist\nplaylist\n")
    return root


def original(root: Path, write: Callable[[Path], object]) -> Path:
    """Make the layout of the original archive and repository."""
    tables = root / "aws-lex-noisy-spoken-language-understanding" / "data" / "nlu_annotation"
    tables.mkdir(parents=True)
    for split, rows in ORIGINAL.items():
        (tables / split).write_text("\n".join([HEADER, *rows]) + "\n")
        for voice in EVERY_VOICE:
            for row in rows:
                write(root / "audio_slu" / f"audio_{voice}" / "snips" / f"{row.split()[0]}.mp3")
    return root


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def values(item: Item) -> list[tuple[str, str]]:
    return [(name, " ".join(item.text.split()[first:end])) for name, first, end in item.custom["slots"]]


@pytest.fixture
def plan(tmp_path: Path) -> Preparation:
    source = spelt_out(tmp_path / "SNIPS", touch)
    touch(source / "train" / "Ivy-snips-train-9999.wav")  # without a text
    touch(source / "train" / "readme.wav")
    return snips.plan(tmp_path)


def test_every_split_has_its_own_voices(plan: Preparation) -> None:
    assert {split: len(voices) for split, voices in snips.VOICES.items()} == {"train": 8, "dev": 4, "test": 4}
    assert len(set(EVERY_VOICE)) == 16
    for split, voices in snips.VOICES.items():
        assert {item.speaker for item in plan.items if item.split == split} == voices.keys()
    assert Counter(item.split for item in plan.items) == {"train": 16, "dev": 4, "test": 4}
    assert plan.coverage["train"] == {"found": 16, "published": 104672}
    assert plan.coverage["test"] == {"found": 4, "published": 2800}
    (view,) = plan.views
    assert (view.folder, view.name) == ("sf", "sf")
    assert view.splits == {s: [i.id for i in plan.items if i.split == s] for s in ("train", "dev", "test")}


def test_slots_are_spans_of_spoken_words(plan: Preparation) -> None:
    known = {item.id: item for item in plan.items}
    item = known["Joey-snips-train-0"]
    assert item.text == "ADD SABRINA SALERNO TO THE R AND B PLAYLIST"
    assert values(item) == [("artist", "SABRINA SALERNO"), ("playlist", "R AND B")]
    assert (item.gender, item.language, item.custom["accent"]) == ("male", "en", "US")
    assert item.custom["intent"] == "AddToPlaylist"
    assert known["Joey-snips-train-1"].text == "PLAY MADONNA"
    assert known["Joey-snips-train-1"].custom["slots"] == [["artist", 1, 2]]
    assert known["Geraint-snips-valid-0"].custom["slots"] == []
    assert values(known["Emma-snips-test-10"]) == [("city", "TATNAI"), ("state", "KANSAS"), ("timeRange", "NEXT YEAR")]


def test_the_original_layout(tmp_path: Path) -> None:
    plan = snips.plan(original(tmp_path / "corpora", touch))
    assert Counter(item.split for item in plan.items) == {"train": 16, "dev": 4, "test": 4}
    known = {item.id: item for item in plan.items}
    assert known["Ivy-snips-train-0"].audio.endswith("audio_slu/audio_Ivy/snips/snips-train-0.mp3")
    assert values(known["Ivy-snips-train-0"]) == [("artist", "SABRINA SALERNO"), ("playlist", "R AND B")]
    assert values(known["Ivy-snips-train-1"]) == [("artist", "MADONNA")]
    assert values(known["Brian-snips-test-10"]) == [("timeRange", "THE 5TH")]  # digits stay


def test_prepared(tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    source = spelt_out(tmp_path / "SNIPS", lambda path: write_audio(path, 0.2, 22050), ["Ivy", "Amy", "Emma", "Joey"])
    (source / "train" / "Ivy-snips-train-0.wav").write_bytes(b"RIFF")
    touch(source / "train" / "Ivy-snips-train-9999.wav")
    with caplog.at_level(logging.WARNING):
        out = prepare("snips", source, tmp_path / "out", progress=False)
    assert (
        "snips is incomplete: 4 train of 104672, 1 dev of 2800, 1 test of 2800, recordings without a text: 1"
        in caplog.text
    )
    view = open_corpus(out / "sf")
    assert {split: len(view.table(split)) for split in view.splits} == {"train": 3, "dev": 1, "test": 1}
    assert view.info["left_out"] == ["Ivy-snips-train-0"]
    assert view.table("test").column("slots") == [[["city", 1, 2], ["state", 2, 3], ["timeRange", 3, 5]]]
    assert view.table("dev").column("slots") == [[]]


def test_damaged_or_wrong_copies(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no all\.iob\.snips\.txt and no audio_slu; expected .*s3prl/SNIPS"):
        snips.plan(tmp_path)
    source = spelt_out(tmp_path / "SNIPS", touch)
    text = (source / "all.iob.snips.txt").read_text()
    (source / "all.iob.snips.txt").write_text(text.replace(" BOS PLAY ,", " BOS PLAY"))
    with pytest.raises(UserError, match=r"all\.iob\.snips\.txt, line 17: expected a tag per word, found 4 for 3"):
        snips.plan(source)
    (source / "all.iob.snips.txt").write_text("BOS PLAY EOS\tO O PlayMusic\n")
    with pytest.raises(UserError, match=r"line 1: expected such as Ivy-snips-train-0 BOS"):
        snips.plan(source)
    (source / "all.iob.snips.txt").write_text("Ivy-snips-train-77 BOS PLAY EOS\tO O PlayMusic\n")
    with pytest.raises(UserError, match=r"no recording of a voice of its split below"):
        snips.plan(source)
    only_audio = tmp_path / "other"
    touch(only_audio / "audio_slu" / "audio_Ivy" / "snips" / "snips-train-0.mp3")
    with pytest.raises(UserError, match=r"has neither all\.iob\.snips\.txt nor a folder data/nlu_annotation"):
        snips.plan(only_audio)
