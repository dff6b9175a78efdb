"""Free Spoken Digit Dataset: official split, views without leaks, download, the real recordings."""

import logging
import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.data.archive import content_digest
from speechssl.data.corpora import fsdd
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.data.items import SPLITS, Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
FULL_SIZES = {"train": 2400, "dev": 300, "test": 300}
REAL = Path(os.environ.get("SPEECHSSL_DATA", "/nowhere")) / "fsdd"


def write_takes(folder: Path, speakers: tuple[str, ...], num_takes: int, digits: int = 10) -> Path:
    """Write silent-ish takes of 0.2 s and return the folder."""
    folder.mkdir(parents=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(1600)
    for digit in range(digits):
        for number, speaker in enumerate(speakers):
            for index in range(num_takes):
                soundfile.write(folder / f"{digit}_{speaker}_{index}.wav", noise * (1 + number), 8000)
    return folder


@pytest.fixture(scope="module")
def names_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 3,000 names, without audio: a plan reads no more."""
    folder = tmp_path_factory.mktemp("fsdd") / "recordings"
    folder.mkdir()
    for digit in range(10):
        for speaker in SPEAKERS:
            for index in range(50):
                (folder / f"{digit}_{speaker}_{index}.wav").touch()
    (folder / "README.txt").touch()
    return folder.parent


@pytest.fixture(scope="module")
def full(names_only: Path) -> Preparation:
    return fsdd.plan(names_only)


def takes_of(preparation: Preparation) -> dict[str, set[str]]:
    """Return the recordings that each item is made of."""
    return {item.id: set(item.custom.get("takes", item.id).split()) for item in preparation.items}


def sizes_of(corpus: Corpus) -> dict[str, int]:
    return {split: len(corpus.table(split)) for split in corpus.splits}


def index_of(take: str) -> int:
    return int(take.rsplit("_", 1)[1])


def test_the_official_split(full: Preparation) -> None:
    assert Counter(item.split for item in full.items if item.split) == FULL_SIZES
    for item in full.items:
        if item.split:
            index = index_of(item.id)
            assert item.split == ("test" if index < 5 else "dev" if index < 10 else "train")


def test_labels(full: Preparation) -> None:
    item = next(item for item in full.items if item.id == "7_jackson_32")
    assert (item.speaker, item.gender, item.text, item.language) == ("jackson", "male", "SEVEN", "en")
    assert item.custom == {"keyword": "seven"}
    assert {i.custom["keyword"] for i in full.items if i.split} == set(fsdd.DIGITS)
    assert next(item for item in full.items if item.id == "0_lucas_0").gender is None


def test_sixty_labels_are_one_take_per_digit_and_speaker(full: Preparation) -> None:
    draws = [view for view in full.views if view.name == "ks60"]
    assert [view.folder for view in draws] == [f"ks60/draw{n}" for n in range(5)]
    for view in draws:
        cells = {tuple(take.split("_")[:2]) for take in view.splits["train"]}
        assert len(view.splits["train"]) == len(cells) == 60
        assert all(index_of(take) >= 10 for take in view.splits["train"])
        assert (len(view.splits["dev"]), len(view.splits["test"])) == (300, 300)
    drawn = [take for view in draws for take in view.splits["train"]]
    assert len(set(drawn)) == 300


def test_the_held_out_speaker_is_only_tested_on(full: Preparation) -> None:
    folds = [view for view in full.views if view.name == "loso"]
    assert [view.fold for view in folds] == sorted(SPEAKERS)
    plain_train = {item.id for item in full.items if item.split == "train"}
    for view in folds:
        sizes = {split: len(view.splits[split]) for split in SPLITS}
        assert sizes == {"train": 2000, "dev": 250, "test": 100}
        heard = {take.split("_")[1] for split in ("train", "dev") for take in view.splits[split]}
        assert heard == set(SPEAKERS) - {view.fold}
        assert {take.split("_")[1] for take in view.splits["test"]} == {view.fold}
        assert not plain_train & set(view.splits["test"])  # nor does pretraining on everything see them


def test_strings_stay_within_speaker_and_split(full: Preparation) -> None:
    takes = takes_of(full)
    view = next(view for view in full.views if view.folder == "strings")
    texts = {item.id: item.text for item in full.items}
    sizes = {split: len(view.splits[split]) for split in SPLITS}
    assert 570 <= sizes["train"] <= 630
    assert 68 <= sizes["dev"] <= 82
    assert 138 <= sizes["test"] <= 162
    for split, names in view.splits.items():
        used = Counter(take for name in names for take in takes[name])
        assert set(used.values()) == {2 if split == "test" else 1}
        assert len(used) == {"train": 2400, "dev": 300, "test": 300}[split]
        for name in names:
            assert 3 <= len(takes[name]) <= 5
            assert len({take.split("_")[1] for take in takes[name]}) == 1
            assert {fsdd.Take(Path(t), 0, "", index_of(t)).split for t in takes[name]} == {split}
            assert set(texts[name].split()) <= {word.upper() for word in fsdd.DIGITS}
    lengths = Counter(len(texts[name].split()) for name in view.splits["train"])
    assert min(lengths[n] for n in (3, 4, 5)) > 100


def test_text_of_a_string_names_its_takes_in_order(full: Preparation) -> None:
    item = next(item for item in full.items if "takes" in item.custom)
    digits = [int(take[0]) for take in item.custom["takes"].split()]
    assert item.text == " ".join(fsdd.DIGITS[digit].upper() for digit in digits)
    assert [Path(path).stem for path in item.audio.args[0]] == item.custom["takes"].split()


def test_sixty_strings_are_ten_per_speaker_of_the_train_strings(full: Preparation) -> None:
    all_of_them, few = (next(v.splits for v in full.views if v.folder == f) for f in ("strings", "strings60"))
    assert len(few["train"]) == 60
    assert set(few["train"]) < set(all_of_them["train"])
    assert (few["dev"], few["test"]) == (all_of_them["dev"], all_of_them["test"])
    assert set(Counter(name.split("-")[2] for name in few["train"]).values()) == {10}


def test_strings_are_in_no_plain_manifest(full: Preparation) -> None:
    assert all(item.split == "" for item in full.items if item.id.startswith("string-"))


def test_verification_is_tested_on_voices_that_are_in_no_other_split(full: Preparation) -> None:
    views = [view for view in full.views if view.name == "asv"]
    items = {item.id: item for item in full.items}
    assert [view.folder for view in views] == ["asv/fold1", "asv/fold2", "asv/fold3"]
    tested = []
    for view in views:
        voices = {split: {items[i].speaker for i in ids} for split, ids in view.splits.items()}
        assert len(voices["test"]) == 2
        assert voices["train"] == voices["dev"]
        assert not voices["test"] & voices["train"]
        tested += voices["test"]
        takes = [take for split in view.splits.values() for i in split for take in items[i].custom["takes"].split()]
        assert len(takes) == len(set(takes))
        for first, trials in view.columns["trials"].items():
            split = "dev" if first in view.splits["dev"] else "test"
            assert {second for second, _ in trials} <= set(view.splits[split])
            assert all((items[first].speaker == items[second].speaker) == same for second, same in trials)
    assert sorted(tested) == sorted({item.speaker for item in full.items})


def test_the_seed_decides_draws_and_strings(names_only: Path, full: Preparation) -> None:
    again, other = fsdd.plan(names_only), fsdd.plan(names_only, seed=1)
    assert [vars(view) for view in again.views] == [vars(view) for view in full.views]
    assert other.views[0].splits["train"] != full.views[0].splits["train"]
    assert [i.text for i in other.items] != [i.text for i in full.items]
    loso = [view.splits for view in full.views if view.name == "loso"]
    assert [view.splits for view in other.views if view.name == "loso"] == loso


@pytest.mark.parametrize("number", range(40))
def test_dealing_uses_every_take_in_strings_of_three_to_five(number: int) -> None:
    takes = [fsdd.Take(Path(f"0_a_{n}.wav"), 0, "a", n) for n in range(number)]
    strings = fsdd._deal(takes, "key")
    assert sum(map(len, strings)) == (number if number >= 3 else 0)
    assert all(3 <= len(string) <= 5 for string in strings)


def test_prepared_from_a_few_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write_takes(tmp_path / "recordings", ("george", "theo"), 13, digits=3)
    with caplog.at_level(logging.WARNING):
        out = prepare("fsdd", source, tmp_path / "out", progress=False)
    assert "78 recordings of 3000, 2 speakers (george, theo)" in caplog.text
    corpus = open_corpus(out)
    assert sizes_of(corpus) == {"train": 18, "dev": 30, "test": 30}
    assert all(seconds == pytest.approx(0.2) for seconds in corpus.table("test").num_samples / 16000)
    strings = open_corpus(out / "strings")
    assert strings.view == "strings"
    table = strings.table("dev")
    for i, text in enumerate(table.column("text")):
        spoken, pauses = 0.2 * len(text.split()), len(text.split()) - 1
        assert spoken + 0.05 * pauses - 0.001 <= table.num_samples[i] / 16000 <= spoken + 0.2 * pauses + 0.001
    fold = open_corpus(out / "loso" / "theo")
    assert fold.fold == "theo"
    assert set(fold.table("train").column("speaker")) == {"george"}
    assert set(fold.table("test").column("speaker")) == {"theo"}
    assert not (out / "ks60" / "draw3").exists()  # three training takes of each digit make three draws
    assert "CC BY-SA 4.0" in corpus.info["licence"]
    assert "Z. Jackson" in corpus.info["licence"]


def test_no_recordings_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "song.wav").touch()
    with pytest.raises(UserError, match=r"no recordings in .*7_jackson_32\.wav"):
        fsdd.plan(tmp_path)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        fsdd.plan(tmp_path / "nowhere")


def test_without_source_the_copy_of_this_machine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_takes(tmp_path / "fsdd" / "recordings", ("theo",), 11, digits=1)
    monkeypatch.setenv("SPEECHSSL_DATA", str(tmp_path))
    assert {item.speaker for item in fsdd.plan().items} == {"theo"}


def test_without_any_copy_it_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recordings = write_takes(tmp_path / "made" / "recordings", ("theo", "lucas"), 11, digits=1)
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("repository-26eb9aaf/README.md", "read me")
        for path in recordings.iterdir():
            packed.write(path, f"repository-26eb9aaf/recordings/{path.name}")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsdd, "URL", archive.as_uri())
    monkeypatch.setattr(fsdd, "CONTENT_SHA256", content_digest(recordings))
    assert len([item for item in fsdd.plan().items if item.split]) == 22
    archive.unlink()
    assert len([item for item in fsdd.plan().items if item.split]) == 22  # now from the cache


def test_without_a_network_the_error_says_to_give_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fsdd, "URL", "http://127.0.0.1:9/none.zip")
    with pytest.raises(UserError, match="give source= a copy on disk") as caught:
        fsdd.plan()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="SPEECHSSL_DATA names no folder with fsdd/ in it")
def test_the_real_recordings(tmp_path: Path) -> None:
    recordings = REAL / "recordings"
    assert content_digest(recordings) == fsdd.CONTENT_SHA256
    corpus = open_corpus(prepare("fsdd", REAL, tmp_path / "out", progress=False))
    assert sizes_of(corpus) == FULL_SIZES
    assert corpus.info["skipped"] == []
    hours = sum(summary["hours"] for summary in corpus.info["splits"].values())
    assert hours * 60 == pytest.approx(21.9, abs=0.1)
    folders = {path.parent.relative_to(corpus.path).as_posix() for path in corpus.path.rglob("corpus.json")}
    folds = [*(f"ks60/draw{n}" for n in range(5)), *(f"loso/{speaker}" for speaker in SPEAKERS)]
    folds += ["asv/fold1", "asv/fold2", "asv/fold3"]
    assert folders == {".", *folds, "strings", "strings60"}
    table = corpus.table("test")
    number = table.ids.index("3_theo_0")
    source, rate = soundfile.read(recordings / "3_theo_0.wav")
    assert len(table.read(number)) == 2 * len(source)
    assert table.rms(number) == pytest.approx(float(np.sqrt(np.mean(source**2))), rel=0.05)
    assert rate == 8000
