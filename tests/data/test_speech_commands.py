"""Speech Commands: official lists, SUPERB's twelve classes, both versions, download of two archives."""

import hashlib
import logging
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.data.corpora import speech_commands
from speechssl.data.corpora.speech_commands import split_by_hash
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

WORDS = ("yes", "stop", "bed", "backward")  # two keywords and two others
SPEAKERS = {"train": ("4a294341", "43f57297"), "dev": ("026290a7",), "test": ("0c40e715",)}
NUM_CLIPS = len(WORDS) * 4


def speaker_of(split: str) -> str:
    return SPEAKERS[split][0]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small copy with the layout of both archives."""
    root = tmp_path_factory.mktemp("corpora")
    rng = np.random.default_rng(0)
    words, tests = root / "speech_commands_v0.02", root / "speech_commands_test_set_v0.02"

    def write(path: Path, seconds: float, level: float = 0.1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, level * rng.standard_normal(round(16000 * seconds)), 16000, subtype="PCM_16")

    for word in WORDS:
        for speakers in SPEAKERS.values():
            for speaker in speakers:
                write(words / word / f"{speaker}_nohash_0.wav", 0.5)
    for name, split in (("validation_list.txt", "dev"), ("testing_list.txt", "test")):
        lines = [f"{word}/{speaker}_nohash_0.wav" for word in WORDS for speaker in SPEAKERS[split]]
        (words / name).write_text("\n".join(lines) + "\n")
    write(words / "_background_noise_" / "white_noise.wav", 3.5)
    write(words / "_background_noise_" / "running_tap.wav", 2.0)
    (words / "_background_noise_" / "README.md").write_text("noise")
    for word in ("yes", "stop", "_unknown_"):
        write(tests / word / f"{speaker_of('test')}_nohash_0.wav", 0.5)
    write(tests / "_silence_" / "0.wav", 0.5, level=0.0)
    return root


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return speech_commands.plan(source)


@pytest.fixture(scope="module")
def prepared(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare("speech_commands", source, tmp_path_factory.mktemp("prepared") / "out", progress=False)


def sizes_of(corpus: Corpus) -> dict[str, int]:
    return {split: len(corpus.table(split)) for split in corpus.splits}


@pytest.mark.parametrize(
    ("speaker", "split"),
    [("026290a7", "dev"), ("060cd039", "dev"), ("0c40e715", "test"), ("0ea0e2f4", "test"), ("4a294341", "train")],
)
def test_the_hash_agrees_with_the_official_lists(speaker: str, split: str) -> None:
    assert split_by_hash(speaker) == split  # lines of validation_list.txt, testing_list.txt, and neither


def test_the_hash_gives_a_tenth_to_dev_and_to_test() -> None:
    counts = Counter(split_by_hash(hashlib.md5(str(i).encode()).hexdigest()[:8]) for i in range(4000))
    assert counts["dev"] == pytest.approx(400, abs=60)
    assert counts["test"] == pytest.approx(400, abs=60)


def test_words_follow_the_official_lists(plan: Preparation) -> None:
    plain = [item for item in plan.items if item.split]
    assert Counter(item.split for item in plain) == {"train": 8, "dev": 4, "test": 4}
    assert all(item.speaker in SPEAKERS[item.split] for item in plain)
    item = next(item for item in plain if item.id == "bed-026290a7_nohash_0")
    assert (item.split, item.speaker, item.text, item.custom) == ("dev", "026290a7", "BED", {"keyword": "bed"})
    view = next(view for view in plan.views if view.folder == "v35")
    assert view.splits == {s: [i.id for i in plain if i.split == s] for s in ("train", "dev", "test")}


def test_twelve_classes(plan: Preparation) -> None:
    view = next(view for view in plan.views if view.folder == "v12")
    known = {item.id: item for item in plan.items}
    label = {i: view.columns["keyword"].get(i, known[i].custom["keyword"]) for ids in view.splits.values() for i in ids}
    classes = {split: Counter(label[i] for i in ids) for split, ids in view.splits.items()}
    assert classes["train"] == {"yes": 2, "stop": 2, "_unknown_": 4, "_silence_": 5}
    assert classes["dev"] == {"yes": 1, "stop": 1, "_unknown_": 2, "_silence_": 5}
    assert classes["test"] == {"yes": 1, "stop": 1, "_unknown_": 1, "_silence_": 1}
    words = {i for ids in view.splits.values() for i in ids if known[i].split}
    assert not {known[i].speaker for i in words} & set(SPEAKERS["test"])  # the testing share goes unused
    assert all(i.startswith("test-") for i in view.splits["test"])


def test_the_split_of_the_twelve_classes_is_a_function_of_the_file_name(tmp_path: Path) -> None:
    """Whatever folder or list a file is in: below 10 of 100 is dev, from 20 on train, and the rest is left out."""
    names = [hashlib.md5(str(i).encode()).hexdigest()[:8] for i in range(300)]
    share = {n: int(hashlib.sha1(n.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1) for n in names}
    expected = {
        "dev": {n for n in names if share[n] < 10},
        "train": {n for n in names if share[n] >= 20},
    }
    assert len(names) - sum(map(len, expected.values())) > 20
    for folder, word, listed in (("a", "yes", slice(0, 50)), ("b", "bed", slice(100, 250))):
        words = tmp_path / folder / "speech_commands_v0.02"
        (words / word).mkdir(parents=True)
        for name in names:
            (words / word / f"{name}_nohash_{len(name)}.wav").touch()
        lines = [f"{word}/{name}_nohash_{len(name)}.wav" for name in names[listed]]
        (words / "validation_list.txt").write_text("\n".join(lines[::2]))
        (words / "testing_list.txt").write_text("\n".join(lines[1::2]))
        tests = words.with_name("speech_commands_test_set_v0.02") / word
        tests.mkdir(parents=True)
        (tests / f"{names[0]}_nohash_0.wav").touch()
        view = next(view for view in speech_commands.plan(words).views if view.folder == "v12")
        found = {split: {name.split("-")[1].split("_")[0] for name in view.splits[split]} for split in expected}
        assert found == expected


def test_silence_is_one_second_of_noise_each(plan: Preparation) -> None:
    noises = [item for item in plan.items if item.custom["keyword"] == "_silence_" and item.duration]
    places = sorted((item.custom["source_id"], item.start, item.duration) for item in noises)
    white = [("white_noise", float(second), 1.0) for second in range(3)]  # the last half second is left
    assert places == [("running_tap", 0.0, 1.0), ("running_tap", 1.0, 1.0), *white]


def test_prepared(prepared: Path) -> None:
    corpus = open_corpus(prepared)
    assert sizes_of(corpus) == {"train": 8, "dev": 4, "test": 4}
    assert corpus.info["skipped"] == []
    assert corpus.info["coverage"]["words"] == {"found": NUM_CLIPS, "published": 105829}
    assert sizes_of(open_corpus(prepared / "v35")) == sizes_of(corpus)
    twelve = open_corpus(prepared / "v12")
    assert sizes_of(twelve) == {"train": 13, "dev": 9, "test": 4}
    assert set(twelve.table("train").column("keyword")) == {"yes", "stop", "_unknown_", "_silence_"}
    assert set(corpus.table("train").column("keyword")) == set(WORDS)
    test = twelve.table("test")
    silent = test.column("keyword").index("_silence_")
    assert not test.read(silent).any()  # digital silence belongs to the published test set


def test_an_incomplete_copy_is_said_to_be_one(source: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        speech_commands.plan(source)
    assert f"speech_commands is incomplete: {NUM_CLIPS} words of 105829, 8 train of 84843" in caplog.text


def test_the_folder_of_words_alone(source: Path, tmp_path: Path) -> None:
    given = speech_commands.plan(source / "speech_commands_v0.02")
    assert {view.folder for view in given.views} == {"v35", "v12"}  # the test set is found beside it
    alone = tmp_path / "words"
    alone.symlink_to(source / "speech_commands_v0.02")
    assert {view.folder for view in speech_commands.plan(alone).views} == {"v35"}


def test_version_1(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is version 2 .*'backward'.*options\.version=2"):
        speech_commands.plan(source / "speech_commands_v0.02", version=1)
    with pytest.raises(UserError, match="version=3 of Speech Commands is unknown"):
        speech_commands.plan(source, version=3)
    old = tmp_path / "speech_commands_v0.01"
    (old / "yes").mkdir(parents=True)
    for split, speakers in SPEAKERS.items():
        (old / "yes" / f"{speakers[0]}_nohash_1.wav").touch()
        if split in speech_commands.LISTS:
            (old / speech_commands.LISTS[split]).write_text(f"yes/{speakers[0]}_nohash_1.wav\n")
    made = speech_commands.plan(tmp_path, version=1)
    assert [view.folder for view in made.views] == ["v30"]
    assert made.coverage["words"] == {"found": 3, "published": 64721}


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no copy of Speech Commands; expected .* validation_list\.txt") as caught:
        speech_commands.plan(tmp_path)
    assert "\n" not in str(caught.value)
    for name in speech_commands.LISTS.values():
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"no words in .*yes/0a7c2a8d_nohash_0\.wav"):
        speech_commands.plan(tmp_path)


@pytest.fixture
def archives(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Serve both archives from files, and return how to take them away again."""
    digests = {}
    for name in ("speech_commands_v0.02", "speech_commands_test_set_v0.02"):
        made = tmp_path / "served" / f"{name}.tar.gz"
        made.parent.mkdir(exist_ok=True)
        with tarfile.open(made, "w:gz") as packed:
            packed.add(source / name, ".")
        digests[name] = hashlib.sha256(made.read_bytes()).hexdigest()
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speech_commands, "URL", (tmp_path / "served").as_uri())
    monkeypatch.setattr(speech_commands, "SHA256", digests)

    def away() -> None:
        (tmp_path / "served").rename(tmp_path / "gone")

    return away


def test_without_any_copy_both_archives_are_fetched_once(archives: Callable[[], None], plan: Preparation) -> None:
    fetched = speech_commands.plan()
    assert [item.id for item in fetched.items] == [item.id for item in plan.items]
    archives()
    assert len(speech_commands.plan().items) == len(plan.items)  # now from the cache


def test_another_archive_is_refused(
    archives: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(speech_commands.SHA256, "speech_commands_v0.02", "0" * 64)
    with pytest.raises(UserError, match=r"has digest .*, expected 00000000; delete it and try again"):
        speech_commands.plan()
    assert not (tmp_path / "cache" / "speech_commands_v0.02").exists()


def test_without_a_network_the_error_says_to_give_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(speech_commands, "URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="give source= a copy on disk"):
        speech_commands.plan()
