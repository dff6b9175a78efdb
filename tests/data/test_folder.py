from pathlib import Path

import pytest

from speechssl.data.corpora.folder import find_audio, plan, unique_ids
from speechssl.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_all_audio_is_found_whatever_its_case(tmp_path: Path) -> None:
    touch(tmp_path, "b/x.WAV", "a.flac", "b/c/y.Ogg", "z.opus", "m.mp3", "notes.txt", "b/x.wav.json")
    assert [str(p) for p in find_audio(tmp_path)] == ["a.flac", "b/c/y.Ogg", "b/x.WAV", "m.mp3", "z.opus"]


def test_hidden_and_prepared_things_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "._a.wav", ".hidden/b.wav", "out/corpus.json", "out/audio/00000.wav")
    touch(tmp_path, "half/.parts/settings.json", "half/audio/00000.wav")
    (tmp_path / "linked").symlink_to(touch(tmp_path / "real", "c.wav"), target_is_directory=True)
    assert [str(p) for p in find_audio(tmp_path)] == ["a.wav", "real/c.wav"]


def test_ids_are_unique_and_only_clashes_are_changed() -> None:
    paths = [Path(p) for p in ("a/b.wav", "a-b.wav", "c.wav", "d.wav", "d.flac")]
    ids = unique_ids(paths)
    assert len(set(ids)) == 5
    assert ids[2] == "c"
    assert all(i.startswith("a-b-") for i in ids[:2])
    assert unique_ids(paths) == ids


def test_parent_folders_become_labels(tmp_path: Path) -> None:
    touch(tmp_path, "001 - Dog bark/1.ogg", "002 - Rain/1.ogg")
    preparation = plan(tmp_path, label_from="parent")
    assert [item.custom for item in preparation.items] == [
        {"label": "001 - Dog bark"},
        {"label": "002 - Rain"},
    ]
    assert all(item.speaker is None for item in preparation.items)
    assert preparation.shares["test"] > 0


def test_unlabelled_folders_have_no_test_split(tmp_path: Path) -> None:
    assert "test" not in plan(touch(tmp_path, "a.wav")).shares


def test_group_by_folder(tmp_path: Path) -> None:
    preparation = plan(touch(tmp_path, "s1/a.wav", "s1/b.wav", "s2/c.wav"), group_by="folder")
    assert [item.group for item in preparation.items] == ["s1", "s1", "s2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_from": "grandparent"}, "expected parent"),
        ({"label_from": "parent"}, "one folder of files per label"),
        ({"group_by": "day"}, "expected one of file, folder"),
        ({"dev_share": 1.5}, "leave something to train"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(touch(tmp_path, "a.wav"), **options)


@pytest.mark.parametrize("source", [None, "nowhere"])
def test_missing_source(source: str | None) -> None:
    with pytest.raises(UserError, match=f"source={source} is no folder"):
        plan(source)


def test_empty_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no audio"):
        plan(tmp_path)
