"""Views of folds, and the line that says how much of a corpus is there."""

import logging

import pytest

from speechssl.data.coverage import coverage
from speechssl.data.folds import fold_views, refuse_leaks
from speechssl.data.items import Item
from speechssl.errors import UserError


def items(*folds: int) -> list[Item]:
    return [Item(f"clip{i}", "", custom={"fold": fold, "source_id": f"s{i}"}) for i, fold in enumerate(folds)]


def test_dev_is_the_next_fold_that_is_there() -> None:
    views = fold_views(items(1, 2, 4, 4), "folds", "folds")
    assert [(view.folder, view.fold) for view in views] == [
        ("folds/fold1", "fold1"),
        ("folds/fold2", "fold2"),
        ("folds/fold4", "fold4"),
    ]
    assert views[1].splits == {"train": ["clip0"], "dev": ["clip2", "clip3"], "test": ["clip1"]}
    assert views[2].splits == {"train": ["clip1"], "dev": ["clip0"], "test": ["clip2", "clip3"]}


def test_two_folds_are_too_few() -> None:
    assert fold_views(items(1, 2), "folds", "folds") == []


def test_excerpts_of_one_recording_stay_together() -> None:
    clips = items(1, 2, 2)
    clips[2].custom["source_id"] = "s1"
    refuse_leaks(clips, "made")
    clips[2].custom["source_id"] = "s0"
    with pytest.raises(UserError, match="made: recording s0 is in folds 1, 2"):
        refuse_leaks(clips, "made")


@pytest.mark.parametrize(
    ("found", "level", "line"),
    [
        (10, "INFO", "made: 10 clips of 10, 2 speakers of 2, as always"),
        (9, "WARNING", "made is incomplete: 9 clips of 10, 2 speakers of 2, as always; results will not compare with"),
        (11, "WARNING", "made has more than was published: 11 clips of 10, 2 speakers of 2"),
    ],
)
def test_coverage_is_told(found: int, level: str, line: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        counts = coverage("made", {"clips": (found, 10), "speakers": (2, 2)}, "as always")
    assert counts == {"clips": {"found": found, "published": 10}, "speakers": {"found": 2, "published": 2}}
    (record,) = caplog.records
    assert (record.levelname, record.message[: len(line)]) == (level, line)
