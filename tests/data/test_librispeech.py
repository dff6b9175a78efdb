"""LibriSpeech: parts, texts, speakers, phones from lexica; agreement with lhotse's reader; download."""

import logging
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import registry
from speechssl.data.corpora import librispeech
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

SPEAKERS = """;LibriSpeech speakers
;ID  |SEX| SUBSET           |MINUTES| NAME
14   | F | train-clean-360  | 25.03 | Kristin LeMoine
103  | F | train-clean-100  | 25.14 | Karen | Savage
84   | M | dev-clean        | 8.02  | Christie Nowak
1089 | M | test-clean       | 8.01  | Peter Bobbe
116  | F | dev-other        | 8.02  | Andrew Nelson
"""
TEXTS = {  # part -> speaker-chapter -> texts
    "train-clean-100": {"103-1240": ["CHAPTER ONE", "THE CAT'S HOUSE"], "103-1241": ["A CAT"]},
    "train-clean-360": {"14-208": ["ONE HOUSE"]},
    "dev-clean": {"84-121123": ["GO", "ONE CHAPTER"]},
    "test-clean": {"1089-134686": ["THE HOUSE", "A XYLOPHONE"]},
    "dev-other": {"116-288045": ["A HOUSE"]},
}
LEXICON = "A\tAH0\nA\tEY1\nCAT  K AE1 T\nCAT'S K AE1 T S\nCHAPTER CH AE1 P T ER0\nGO G OW1\nONE W AH1 N\nTHE DH AH0\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy with the published layout; speaker 1089 has no second recording, dev-other's is damaged."""
    root = tmp_path_factory.mktemp("corpora")
    folder = root / "LibriSpeech"
    for part, chapters in TEXTS.items():
        for chapter, texts in chapters.items():
            where = folder / part / chapter.replace("-", "/")
            where.mkdir(parents=True)
            lines = [f"{chapter}-{number:04d} {text}" for number, text in enumerate(texts)]
            (where / f"{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
            for number in range(len(texts)):
                write_flac(where / f"{chapter}-{number:04d}.flac", 0.3 + 0.1 * number)
    (folder / "test-clean/1089/134686/1089-134686-0001.flac").unlink()
    (folder / "dev-other/116/288045/116-288045-0000.flac").write_bytes(b"no flac")
    (folder / "SPEAKERS.TXT").write_text(SPEAKERS)
    (folder / "librispeech-lexicon-200k-g2p.txt").write_text(LEXICON)
    (folder / "librispeech-lexicon-allothers-g2p.txt").write_text("HOUSE HH AW1 S\nCAT K AA1 T\n")
    return root


def write_flac(path: Path, seconds: float) -> None:
    noise = 0.1 * np.random.default_rng(len(path.stem)).standard_normal(round(16000 * seconds))
    soundfile.write(path, noise, 16000, subtype="PCM_16")


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return librispeech.plan(source)


def test_utterances(plan: Preparation) -> None:
    item = next(item for item in plan.items if item.id == "103-1240-0001")
    assert (item.split, item.speaker, item.gender, item.language) == ("train", "103", "female", "en")
    assert item.text == "THE CAT'S HOUSE"
    assert Path(str(item.audio)).parts[-4:] == ("train-clean-100", "103", "1240", "103-1240-0001.flac")
    splits = {item.id: item.split for item in plan.items}
    assert len(splits) == len(plan.items) == 9
    assert splits["14-208-0000"] == "train"
    assert splits["116-288045-0000"] == "dev"
    assert plan.coverage["train-clean-100"] == {"found": 3, "published": 28539}
    assert "test-other" not in plan.coverage


def test_views(plan: Preparation) -> None:
    views = {view.folder: view for view in plan.views}
    assert set(views) == {"asr", "pr"}  # test-other is missing
    assert views["asr"].splits == {
        "train": ["103-1240-0000", "103-1240-0001", "103-1241-0000"],
        "dev": ["84-121123-0000", "84-121123-0001"],
        "test": ["1089-134686-0000", "1089-134686-0001"],
    }
    assert views["pr"].splits == views["asr"].splits
    assert views["asr"].columns == {}


def test_phones_are_those_of_the_first_pronunciation(plan: Preparation) -> None:
    phones = next(view for view in plan.views if view.folder == "pr").columns["phones"]
    assert phones["103-1240-0001"] == ["DH", "AH0", "K", "AE1", "T", "S", "HH", "AW1", "S"]
    assert phones["103-1241-0000"] == ["AH0", "K", "AE1", "T"]
    assert phones["1089-134686-0001"] == ["AH0", "<unk>"]  # XYLOPHONE is in no lexicon
    assert len(phones) == 7


def test_lexica(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = tmp_path / "mine.txt"
    given.write_text(LEXICON + "HOUSE HH AW1 Z\nXYLOPHONE Z AY1 L AH0 F OW2 N\n")
    phones = librispeech.plan(source, lexicon=str(given)).views[1].columns["phones"]
    assert phones["1089-134686-0000"] == ["DH", "AH0", "HH", "AW1", "Z"]
    assert phones["1089-134686-0001"] == ["AH0", "Z", "AY1", "L", "AH0", "F", "OW2", "N"]
    with pytest.raises(UserError, match=r"nowhere.txt cannot be read"):
        librispeech.plan(source, lexicon=[str(given), str(tmp_path / "nowhere.txt")])
    with caplog.at_level(logging.WARNING):
        librispeech.plan(source)
    assert "1 words of LibriSpeech are in no lexicon and are <unk> in the phones" in caplog.text
    bare = tmp_path / "bare" / "LibriSpeech"
    shutil.copytree(source / "LibriSpeech", bare, ignore=shutil.ignore_patterns("*lexicon*"))
    assert all(view.columns == {} for view in librispeech.plan(bare).views)
    assert "no phones in pr; give options.lexicon=" in caplog.text


def test_lhotse_reads_the_same_but_for_damaged_files(source: Path, tmp_path: Path, plan: Preparation) -> None:
    from lhotse.audio.utils import AudioLoadingError
    from lhotse.recipes.librispeech import prepare_librispeech

    with pytest.raises(AudioLoadingError):
        prepare_librispeech(source / "LibriSpeech", dataset_parts=list(TEXTS))
    sound = tmp_path / "LibriSpeech"
    shutil.copytree(source / "LibriSpeech", sound, ignore=shutil.ignore_patterns("dev-other"))
    manifests = prepare_librispeech(sound, dataset_parts=[p for p in TEXTS if p != "dev-other"])
    theirs = {s.id: (s.speaker, s.text) for part in manifests.values() for s in part["supervisions"]}
    ours = {i.id: (i.speaker, i.text) for i in plan.items if i.speaker != "116" and Path(str(i.audio)).is_file()}
    assert ours == theirs


def test_prepared(source: Path, tmp_path: Path) -> None:
    out = prepare("librispeech", source, tmp_path / "out", progress=False)
    corpus = open_corpus(out)
    assert {split: len(corpus.table(split)) for split in corpus.splits} == {"train": 4, "dev": 2, "test": 1}
    assert {entry["id"] for entry in corpus.info["skipped"]} == {"1089-134686-0001", "116-288045-0000"}
    table = open_corpus(out / "pr").table("train")
    phones = dict(zip(table.ids, table.column("phones"), strict=True))
    assert phones["103-1240-0000"] == ["CH", "AE1", "P", "T", "ER0", "W", "AH1", "N"]
    assert open_corpus(out / "pr").info["left_out"] == ["1089-134686-0001"]
    for name in ("pr", "asr"):
        task = registry.module("downstream", name).TASK(open_corpus(out / name))
        task.check()
        assert len(task.dataset("train").cuts) == 3


def test_chosen_parts(source: Path) -> None:
    chosen = librispeech.plan(source, parts=["train-clean-100", "dev-other"])
    assert {item.speaker for item in chosen.items} == {"103", "116"}
    assert chosen.views == []
    with pytest.raises(UserError, match=r"no part 'train-clean-10'; .*nearest: 'train-clean-100'"):
        librispeech.plan(source, parts=["train-clean-10"])
    with pytest.raises(UserError, match=r"has no folder test-other; it has train-clean-100, .*options\.parts="):
        librispeech.plan(source, parts=["test-other"])


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is no copy of LibriSpeech; expected a folder with parts such as train-clean"):
        librispeech.plan(tmp_path)
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(
        UserError, match=r"no texts in .*dev-clean; expected files such as 84/121123/84-121123.trans.txt"
    ):
        librispeech.plan(tmp_path)


def test_without_any_copy_the_parts_are_fetched_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served" / "12"
    served.mkdir(parents=True)
    for part in librispeech.CLEAN:
        with tarfile.open(served / f"{part}.tar.gz", "w:gz") as packed:
            packed.add(source / "LibriSpeech" / part, f"LibriSpeech/{part}")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(librispeech, "URL", served.parent.as_uri())
    fetched = librispeech.plan()
    assert len(fetched.items) == 7
    assert {view.folder for view in fetched.views} == {"asr", "pr"}
    shutil.rmtree(served)
    assert len(librispeech.plan().items) == 7  # now from the cache
    with pytest.raises(UserError, match=r"could not download LibriSpeech .*try again to resume, or give source="):
        librispeech.plan(parts=["dev-other"])
