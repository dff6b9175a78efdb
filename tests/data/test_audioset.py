"""AudioSet: file names of all tools, no clip of eval in train, coverage per list, other labels."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import audioset
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.data.youtube_clips import clip_id
from speechssl.errors import UserError

CLASSES = {"/m/09x0r": "Speech", "/m/05zppz": "Male speech, man speaking", "/m/0bt9lr": "Dog", "/m/04rlf": "Music"}
SHARED = "--PJHxphWEs"  # in the eval list and in both train lists
TWICE = "-0RWZT-miFs"  # in both train lists
ABSENT = "Y__________"  # in the balanced list, without a file


def balanced(count: int = 24) -> list[str]:
    return [SHARED, TWICE, ABSENT, *(f"{i:02d}_bal-Anced"[:11] for i in range(count))]


def unbalanced(count: int = 30) -> list[str]:
    return [TWICE, SHARED, *(f"Y{i:02d}_unbal__" for i in range(count))]


def evaluation(count: int = 6) -> list[str]:
    return [SHARED, *(f"-{i:02d}eval-Set" for i in range(count))]


def labels_of(clip: str) -> str:
    return "/m/09x0r,/m/05zppz" if sum(map(ord, clip)) % 2 else "/m/0bt9lr"


def write_lists(root: Path, announced: dict[str, int] | None = None) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rows = [f'{i},{mid},"{name}"' for i, (mid, name) in enumerate(CLASSES.items())]
    (root / audioset.CLASSES).write_text("\n".join(["index,mid,display_name", *rows]) + "\n")
    for name, clips in (("balanced", balanced()), ("unbalanced", unbalanced()), ("eval", evaluation())):
        number = (announced or {}).get(name, len(clips))
        lines = [
            "# Segments csv created on Sun Mar  5 10:54:31 2017",
            f"# num_ytids={number}, num_segs={number}, num_unique_labels=4, num_positive_labels=9",
            "# YTID, start_seconds, end_seconds, positive_labels",
            *(f'{clip}, 30.500, 40.500, "{labels_of(clip)}"' for clip in clips),
        ]
        (root / audioset.LISTS[name]).write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Names without audio, a different convention and folder per list."""
    root = tmp_path_factory.mktemp("audioset")
    write_lists(root / "csv", {"eval": 20371})
    names = {
        "balanced_train/{}.wav": balanced(),
        "unbalanced/part{}/Y{}.flac": unbalanced(),
        "eval/{}_30500_40500.mp3": evaluation(),
    }
    for pattern, clips in names.items():
        for i, clip in enumerate(clips):
            path = root / (pattern.format(i % 2, clip) if "part" in pattern else pattern.format(clip))
            path.parent.mkdir(parents=True, exist_ok=True)
            if clip != ABSENT:
                path.touch()
    for other in ("song.wav", "eval/-00eval-Set_99.wav", "eval/.hidden.wav", "balanced_train/readme.txt"):
        (root / other).touch()
    return root


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return audioset.plan(source)


@pytest.mark.parametrize(
    "name",
    [
        "{}",
        "Y{}",
        "{}_30",
        "Y{}_30",
        "{}_30.5",
        "{}_30.500_40.500",
        "{}_30500",
        "{}_30000",
        "Y{}_30500_40500",
        "{}_30_40",
    ],
)
@pytest.mark.parametrize("clip", ["--PJHxphWEs", "Yabcdefghi_", "YYYYYYYYYYY", "_1234567_30", "Y0_123456_7"])
def test_names_of_all_tools(name: str, clip: str) -> None:
    assert clip_id(name.format(clip), {clip: 30.5, "aaaaaaaaaaa": 0.0}) == clip


@pytest.mark.parametrize(
    "name", ["--PJHxphWE", "--PJHxphWEsx", "--pjhxphwes", "X--PJHxphWEs", "--PJHxphWEs_0", "--PJHxphWEs_99", "song", ""]
)
def test_other_names(name: str) -> None:
    assert clip_id(name, {"--PJHxphWEs": 30.5}) is None


def test_labels_are_display_names(plan: Preparation) -> None:
    item = next(item for item in plan.items if item.id == "00_bal-Ance")
    names = [CLASSES[mid] for mid in labels_of(item.id).split(",")]
    assert item.custom == {"labels": names, "source_id": "00_bal-Ance"}
    assert {name for item in plan.items for name in item.custom["labels"]} == set(CLASSES.values()) - {"Music"}


def test_no_clip_of_eval_is_trained_on_and_none_is_there_twice(plan: Preparation) -> None:
    ids = [item.id for item in plan.items]
    assert len(ids) == len(set(ids)) == 7 + 25 + 30
    plain = {item.id for item in plan.items if item.split}
    assert plain == (set(balanced()) | set(unbalanced())) - {SHARED, ABSENT}
    for view in plan.views:
        assert set(view.splits["test"]) == set(evaluation())
        assert not set(view.splits["test"]) & set(view.splits["train"] + view.splits["dev"])
        assert not set(view.splits["dev"]) & set(view.splits["train"])


def test_views(plan: Preparation) -> None:
    small, full = (next(view for view in plan.views if view.folder == folder) for folder in ("balanced", "full"))
    assert set(small.splits["train"] + small.splits["dev"]) == set(balanced()) - {SHARED, ABSENT}
    assert set(full.splits["train"] + full.splits["dev"]) == (set(balanced()) | set(unbalanced())) - {SHARED, ABSENT}


def test_dev_is_a_small_share_by_hash() -> None:
    clips = {"balanced": [f"{i:011d}" for i in range(20000)], "unbalanced": [], "eval": ["x" * 11]}
    (view,) = audioset._views(clips)
    assert len(view.splits["dev"]) == pytest.approx(1000, abs=100)
    fewer = audioset._views(clips | {"balanced": clips["balanced"][:5000]})[0]
    assert set(fewer.splits["dev"]) <= set(view.splits["dev"])  # a clip never moves
    full = audioset._views({**clips, "balanced": clips["balanced"][:1], "unbalanced": clips["balanced"][1:]})[-1]
    assert set(full.splits["dev"]) <= set(view.splits["dev"])


def test_coverage_of_each_list(source: Path, plan: Preparation, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        audioset.plan(source)
    assert "audioset is incomplete: 7 eval of 20371, 26 balanced of 27, 32 unbalanced of 32" in caplog.text
    assert "3 files of clips that are there already" in caplog.text
    assert "names 4 classes, AudioSet has 527" in caplog.text
    assert plan.coverage["balanced"] == {
        "found": 26,
        "published": 27,
        "missing": 1,
        "listed_twice": 0,
        "in_lists_before": 1,
        "used": 25,
    }
    assert plan.coverage["unbalanced"]["in_lists_before"] == 2
    assert plan.coverage["eval"]["missing"] == 20364
    assert plan.coverage["files"] == {"duplicates": 3, "others": 2, "m4a": 0}  # SHARED twice more, TWICE once


def test_the_best_of_several_files_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lists(tmp_path)
    for name in (f"a/{TWICE}.m4a", f"b/Y{TWICE}.flac", f"c/{TWICE}.mp3", "d/00_bal-Ance.m4a", f"e/{SHARED}.WAV"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with caplog.at_level(logging.WARNING):
        made = audioset.plan(tmp_path)
    assert {item.id: Path(item.audio).suffix for item in made.items}[TWICE] == ".flac"
    assert made.coverage["files"] == {"duplicates": 2, "others": 0, "m4a": 1}
    assert "1 clips in m4a, which cannot be read" in caplog.text


def test_without_the_unbalanced_list(source: Path) -> None:
    made = audioset.plan(source, unbalanced=False)
    assert [view.folder for view in made.views] == ["balanced"]
    assert len(made.items) == 7 + 25
    assert "unbalanced" not in made.coverage


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_other_labels_for_train(source: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"enhanced.{kind}"
    clips = ("00_bal-Ance", SHARED)
    if kind == "json":
        data = [{"wav": f"/elsewhere/{clip}.flac", "labels": "/m/04rlf,/m/0bt9lr"} for clip in clips]
        path.write_text(json.dumps({"data": data}))
    else:
        path.write_text("".join(f'{clip}, 30.500, 40.500, "/m/04rlf,/m/0bt9lr"\n' for clip in clips))
    made = {item.id: item.custom["labels"] for item in audioset.plan(source, labels_file=path).items}
    assert made["00_bal-Ance"] == ["Music", "Dog"]
    assert made[SHARED] == [CLASSES[mid] for mid in labels_of(SHARED).split(",")]  # eval keeps its own
    assert made["01_bal-Ance"] == [CLASSES[mid] for mid in labels_of("01_bal-Ance").split(",")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"data": [{"wav": "x"}]}', 'expected entries {"wav": path'),
        ("[]", "labels none of the clips"),
        ('{"data": [{"wav": "00_bal-Ance.wav", "labels": "/m/none"}]}', "label '/m/none', which class_labels"),
    ],
)
def test_wrong_other_labels(source: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(UserError, match=message):
        audioset.plan(source, labels_file=tmp_path / "labels.json")
    with pytest.raises(UserError, match=r"labels_file=.*does not exist"):
        audioset.plan(source, labels_file=tmp_path / "none.json")


def test_prepared(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    root = tmp_path / "source"
    write_lists(root)
    for number, clip in enumerate((*balanced(), *evaluation())):
        if clip != ABSENT:
            write_audio(root / "audio" / f"Y{clip}.flac", 0.2, 32000, seed=number)
    out = prepare("audioset", root, tmp_path / "out", progress=False)
    corpus = open_corpus(out)
    assert len(corpus.table("train")) == 25
    assert corpus.info["coverage"]["eval"]["found"] == 7
    view = open_corpus(out / "balanced")
    assert {split: len(view.table(split)) for split in view.splits} == {"train": 24, "dev": 1, "test": 7}
    assert ["Speech", "Male speech, man speaking"] in view.table("train").column("labels")
    assert not (out / "full").exists()  # nothing of the unbalanced list was there


def test_a_source_without_clips_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lists(tmp_path)
    (tmp_path / "song.wav").touch()
    with pytest.raises(UserError, match=r"no clip of AudioSet below .*1 other .*cannot be downloaded") as caught:
        audioset.plan(tmp_path)
    assert "\n" not in str(caught.value)
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    with pytest.raises(UserError, match="audio of AudioSet cannot be downloaded, give a copy"):
        audioset.plan()


def test_a_damaged_list_is_one_clear_line(tmp_path: Path) -> None:
    write_lists(tmp_path)
    path = tmp_path / audioset.LISTS["eval"]
    path.write_text(path.read_text() + "bUBfTuRD1ac, 30\n")
    with pytest.raises(UserError, match=r"eval_segments\.csv, line 11: expected YTID, start, end, labels"):
        audioset.plan(tmp_path)


def test_missing_lists_are_downloaded(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(audioset, "URL", (source / "csv").as_uri())
    made = audioset.plan(source / "balanced_train", unbalanced=False)
    assert {item.id for item in made.items} == set(balanced()) - {ABSENT}
    assert made.items[0].id == SHARED  # its only file lies among the balanced ones; it is an eval clip all the same
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(audioset, "URL", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="give source= a copy on disk"):
        audioset.plan(source / "balanced_train")
