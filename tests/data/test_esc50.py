"""ESC-50: classes and folds from its table, the ESC-10 subset, download."""

import logging
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import esc50
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

HEADER = "filename,fold,target,category,esc10,src_file,take"


def rows(classes: int = 50, per_cell: int = 8) -> list[str]:
    """Return lines of the table: every fifth class is of ESC-10, two takes of each recording."""
    found = []
    for fold in range(1, 6):
        for target in range(classes):
            for clip in range(per_cell):
                recording, take = 100000 * fold + 1000 * target + clip // 2, "AB"[clip % 2]
                name, ten = f"{fold}-{recording}-{take}-{target}.wav", target % 5 == 0
                found.append(f"{name},{fold},{target},class_{target},{ten},{recording},{take}")
    return found


def copy_of(root: Path, lines: list[str], write: Callable[[Path], object] = Path.touch) -> Path:
    for folder in ("audio", "meta"):
        (root / folder).mkdir(parents=True)
    (root / "meta" / "esc50.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    (root / "README.md").write_text("read me")
    for line in lines:
        write(root / "audio" / line.split(",")[0])
    return root


@pytest.fixture(scope="module")
def names_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 2,000 names, without audio: a plan reads no more."""
    return copy_of(tmp_path_factory.mktemp("esc50") / "ESC-50-master", rows())


@pytest.fixture(scope="module")
def full(names_only: Path) -> Preparation:
    return esc50.plan(names_only)


def test_labels_folds_and_recordings(full: Preparation) -> None:
    assert len(full.items) == 2000
    item = next(item for item in full.items if item.id == "3-312001-B-12")
    assert item.custom == {"label": "class_12", "fold": 3, "source_id": "312001"}
    assert item.split == "train"
    assert full.coverage == {
        "clips": {"found": 2000, "published": 2000},
        "classes": {"found": 50, "published": 50},
    }


def test_folds_of_all_classes_and_of_ten(full: Preparation) -> None:
    folders = [f"{place}/fold{n}" for place in ("folds", "esc10/folds") for n in range(1, 6)]
    assert [view.folder for view in full.views] == folders
    known = {item.id: item.custom for item in full.items}
    for view in full.views:
        per_fold, classes = (80, 10) if view.name == "esc10" else (400, 50)
        assert {split: len(ids) for split, ids in view.splits.items()} == {
            "train": 3 * per_fold,
            "dev": per_fold,
            "test": per_fold,
        }
        number = int(view.fold.removeprefix("fold"))
        assert {known[i]["fold"] for i in view.splits["test"]} == {number}
        assert {known[i]["fold"] for i in view.splits["dev"]} == {number % 5 + 1}
        counts = Counter(known[i]["label"] for i in view.splits["test"])
        assert set(counts.values()) == {8}
        assert len(counts) == classes
    ten = {known[i]["label"] for i in full.views[-1].splits["test"]}
    assert ten == {f"class_{target}" for target in range(0, 50, 5)}


def test_the_folder_above_will_do(names_only: Path, full: Preparation) -> None:
    assert esc50.plan(names_only.parent).items == full.items


def test_prepared_from_a_few_files(
    tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    source = copy_of(tmp_path / "source", rows(2, 2), lambda path: write_audio(path, 0.2, 44100))
    (source / "audio" / "1-100000-A-0.wav").unlink()
    with caplog.at_level(logging.WARNING):
        out = prepare("esc50", source, tmp_path / "out", progress=False)
    assert "esc50 is incomplete: 19 clips of 2000, 2 classes of 50, 1 of the table's files missing, 10" in caplog.text
    corpus = open_corpus(out)
    assert corpus.splits == ["train"]
    assert corpus.info["coverage"]["clips"] == {"found": 19, "published": 2000}
    assert "CC BY-NC 3.0" in corpus.info["licence"]
    fold = open_corpus(out / "esc10" / "folds" / "fold5")
    assert (fold.name, fold.view, fold.fold) == ("esc50", "esc10", "fold5")
    assert set(fold.table("dev").column("label")) == {"class_0"}
    assert set(open_corpus(out / "folds" / "fold2").table("train").column("fold")) == {1, 4, 5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("esc10", "subset"), r"esc50\.csv has no column 'esc10'"),
        (lambda text: text.replace(",1,0,", ",one,0,"), r"the fold of 1-100000-A-0\.wav is 'one'"),
        (lambda text: text + "5-1-A-0.wav,5\n", r"line 42: expected the columns"),
        (lambda text: text.replace("500000,", "100000,"), r"esc50: recording 100000 is in folds 1, 5"),
    ],
)
def test_another_table_is_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    table = copy_of(tmp_path / "source", rows(2, 4)) / "meta" / "esc50.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        esc50.plan(tmp_path / "source")
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no meta/esc50\.csv in source=.*karolpiczak/ESC-50"):
        esc50.plan(tmp_path)
    source = copy_of(tmp_path / "source", rows(1, 2))
    for path in (source / "audio").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"none of the 10 files of meta/esc50\.csv is in"):
        esc50.plan(source)


def test_without_any_copy_it_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names_only: Path
) -> None:
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in names_only.rglob("*"):
            packed.write(path, f"ESC-50-33c8ce9e/{path.relative_to(names_only)}")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(esc50, "URL", archive.as_uri())
    assert len(esc50.plan().items) == 2000
    archive.unlink()
    assert len(esc50.plan().items) == 2000  # now from the cache
    monkeypatch.setenv("SPEECHSSL_DATA", str(tmp_path))
    names_only.parent.joinpath("esc50").symlink_to(names_only)
    monkeypatch.setenv("SPEECHSSL_DATA", str(names_only.parent))
    assert esc50.plan().items[0].audio.startswith(str(names_only.parent))
