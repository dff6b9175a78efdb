"""ESC-10: classes and folds from names, no recording in two folds, download, the real clips."""

import logging
import os
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from speechssl.data.archive import content_digest
from speechssl.data.corpora import esc10
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

CLASSES = (
    "Dog bark",
    "Rain",
    "Sea waves",
    "Baby cry",
    "Clock tick",
    "Person sneeze",
    "Helicopter",
    "Chainsaw",
    "Rooster",
    "Fire crackling",
)
REAL = Path(os.environ.get("SPEECHSSL_DATA", "/nowhere")) / "esc10"


def names(classes: int = 10, per_cell: int = 8) -> list[str]:
    """Return names with the layout of the corpus: two takes of each recording."""
    found = []
    for number, label in enumerate(CLASSES[:classes]):
        for fold in range(1, 6):
            for clip in range(per_cell):
                recording = 100000 * (number + 1) + 1000 * fold + clip // 2
                found.append(f"{number + 1:03d} - {label}/{fold}-{recording}-{'AB'[clip % 2]}.ogg")
    return found


def touch(folder: Path, files: list[str]) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def names_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 400 names, without audio, and what else lies there: a plan reads no more."""
    folder = touch(tmp_path_factory.mktemp("esc10"), names())
    return touch(folder, ["README.md", "ESC-10-HumanClassification.xlsx", "001 - Dog bark/._1-1-A.ogg", "x/y.ogg"])


@pytest.fixture(scope="module")
def full(names_only: Path) -> Preparation:
    return esc10.plan(names_only)


def test_labels_folds_and_recordings(full: Preparation) -> None:
    item = next(item for item in full.items if item.id == "3-903001-B")
    assert item.custom == {"label": "Rooster", "fold": 3, "source_id": "903001"}
    assert {item.custom["label"] for item in full.items} == set(CLASSES)
    assert {item.split for item in full.items} == {"train"}
    assert len(full.items) == 400
    assert full.coverage == {
        "clips": {"found": 400, "published": 400},
        "classes": {"found": 10, "published": 10},
    }


def test_each_fold_is_tested_once_and_selected_on_once(full: Preparation) -> None:
    assert [view.folder for view in full.views] == [f"folds/fold{n}" for n in range(1, 6)]
    fold_of = {item.id: item.custom["fold"] for item in full.items}
    label_of = {item.id: item.custom["label"] for item in full.items}
    for number, view in enumerate(full.views, 1):
        assert (view.name, view.fold) == ("folds", f"fold{number}")
        used = {split: {fold_of[i] for i in ids} for split, ids in view.splits.items()}
        assert used["test"] == {number}
        assert used["dev"] == {number % 5 + 1}
        assert used["train"] == {1, 2, 3, 4, 5} - used["test"] - used["dev"]
        assert sorted(i for ids in view.splits.values() for i in ids) == sorted(fold_of)
        assert Counter(label_of[i] for i in view.splits["test"]) == dict.fromkeys(CLASSES, 8)


def test_the_narrower_licence_can_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, [*names(), "009 - Rooster/1-40730-A.ogg", "009 - Rooster/2-96460-A.ogg"])
    assert len(esc10.plan(tmp_path).items) == 402
    with caplog.at_level(logging.WARNING):
        kept = esc10.plan(tmp_path, exclude_sampling_plus=True)
    assert not {item.id for item in kept.items} & {"1-40730-A", "2-96460-A"}
    assert len(kept.items) == 400


def test_a_recording_in_two_folds_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, [*names(), "001 - Dog bark/5-101000-C.ogg"])
    with pytest.raises(UserError, match="esc10: recording 101000 is in folds 1, 5"):
        esc10.plan(tmp_path)


def test_prepared_from_a_few_files(tmp_path: Path, noise, caplog: pytest.LogCaptureFixture) -> None:
    for seed, name in enumerate(names(classes=2, per_cell=2)):
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(0.2, 44100, seed), 44100, format="OGG", subtype="VORBIS")
    with caplog.at_level(logging.WARNING):
        out = prepare("esc10", tmp_path / "source", tmp_path / "out", progress=False)
    assert "esc10 is incomplete: 20 clips of 400, 2 classes of 10, 10 of its" in caplog.text
    corpus = open_corpus(out)
    assert corpus.splits == ["train"]
    assert len(corpus.table("train")) == 20
    assert corpus.info["coverage"]["clips"] == {"found": 20, "published": 400}
    assert "K. J. Piczak" in corpus.info["licence"]
    fold = open_corpus(out / "folds" / "fold5")
    assert (fold.name, fold.view, fold.fold) == ("esc10", "folds", "fold5")
    assert {split: set(fold.table(split).column("fold")) for split in fold.splits} == {
        "train": {2, 3, 4},
        "dev": {1},
        "test": {5},
    }
    assert set(fold.table("test").column("label")) == {"Dog bark", "Rain"}


def test_no_clips_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, ["audio/1-100032-A-0.wav"])  # that is ESC-50
    with pytest.raises(UserError, match=r"no clips of ESC-10 in .*001 - Dog bark/1-100032-A\.ogg"):
        esc10.plan(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        esc10.plan(tmp_path / "nowhere")


def test_without_source_the_copy_of_this_machine_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "esc10", names(classes=1))
    monkeypatch.setenv("SPEECHSSL_DATA", str(tmp_path))
    assert {item.custom["label"] for item in esc10.plan().items} == {"Dog bark"}


def test_without_any_copy_it_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = touch(tmp_path / "made", names(classes=2))
    packed = tmp_path / "archive.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ESC-10-9c866b98/README.md", "read me")
        for path in made.glob("*/*.ogg"):
            archive.write(path, f"ESC-10-9c866b98/{path.relative_to(made)}")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(esc10, "URL", packed.as_uri())
    monkeypatch.setattr(esc10, "CONTENT_SHA256", content_digest(made))
    assert len(esc10.plan().items) == 80
    packed.unlink()
    assert len(esc10.plan().items) == 80  # now from the cache


@pytest.mark.skipif(not REAL.is_dir(), reason="SPEECHSSL_DATA names no folder with esc10/ in it")
def test_the_real_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "copy"
    for path in REAL.glob("*/*.ogg"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).symlink_to(path)
    assert content_digest(copy) == esc10.CONTENT_SHA256
    plan = esc10.plan(REAL)
    assert {item.custom["label"] for item in plan.items} == set(CLASSES)
    assert len({item.custom["source_id"] for item in plan.items}) == 304
    cells = Counter((item.custom["label"], item.custom["fold"]) for item in plan.items)
    assert set(cells.values()) == {8}
    assert len(cells) == 50
    assert len(esc10.plan(REAL, exclude_sampling_plus=True).items) == 398
    corpus = open_corpus(prepare("esc10", REAL, tmp_path / "out", progress=False))
    assert corpus.info["skipped"] == []
    assert corpus.info["splits"]["train"]["hours"] == pytest.approx(0.5565, abs=0.001)
