"""Common Voice: releases, languages, tables with quirks, equally many clips per language."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import common_voice
from speechssl.data.cuts import fold_folders, open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

OLD = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]
NEW = ["client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender"]
NEW += ["accents", "variant", "locale", "segment"]
COUNTS = {"de": (12, 3, 3), "en": (6, 2, 2), "zh-CN": (4, 2, 3)}
SPLITS = ("train", "dev", "test")


def table(columns: list[str], language: str, split: str, count: int) -> str:
    """Return a table: tabs between columns, quotation marks as they come."""
    lines = ["\t".join(columns)]
    for number in range(count):
        row = dict.fromkeys(columns, "") | {
            "client_id": f"{split}{number // 2:060x}",
            "path": f"common_voice_{language}_{split}{number}.mp3",
            "sentence": ['"Oh!"', 'It\'s "not" balanced", he said.', "你好"][number % 3],
            "gender": ["male_masculine", "female", "", "do_not_wish_to_say", "other"][number % 5],
            "locale": language,
        }
        row["accents" if "accents" in columns else "accent"] = ["", "England English,Scottish English"][number % 2]
        lines.append("\t".join(row[name] for name in columns))
    return "\n".join(lines) + "\n"


def release(root: Path, write: Callable[[Path], object], counts: dict[str, tuple[int, ...]] = COUNTS) -> Path:
    for language, sizes in counts.items():
        columns = OLD if language == "en" else NEW
        (root / language / "clips").mkdir(parents=True)
        for split, count in zip(SPLITS, sizes, strict=True):
            if count:
                (root / language / f"{split}.tsv").write_text(table(columns, language, split, count))
            for number in range(count):
                write(root / language / "clips" / f"common_voice_{language}_{split}{number}.mp3")
        (root / language / "validated.tsv").write_text("client_id\n")
    return root


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release(tmp_path_factory.mktemp("corpora") / "cv-corpus-13.0-2023-03-09", Path.touch)


@pytest.fixture(scope="module")
def plan(source: Path) -> Preparation:
    return common_voice.plan(source)


def test_columns(plan: Preparation) -> None:
    known = {item.id: item for item in plan.items}
    item = known["en-common_voice_en_train1"]
    assert (item.split, item.language, item.gender) == ("train", "en", "female")
    assert item.text == 'It\'s "not" balanced", he said.'
    assert item.custom == {"accent": "England English,Scottish English"}
    assert item.speaker == known["en-common_voice_en_train0"].speaker
    assert known["en-common_voice_en_train0"].text == "Oh!"
    genders = [known[f"de-common_voice_de_train{number}"].gender for number in range(5)]
    assert genders == ["male", "female", None, None, "other"]
    assert known["zh-CN-common_voice_zh-CN_test2"].text == "你好"
    assert plan.name == "common_voice-13.0-2023-03-09"


def test_equally_many_clips_of_every_language(plan: Preparation, source: Path) -> None:
    known = {item.id: item for item in plan.items}
    (view,) = (view for view in plan.views if view.name == "lid")
    for split, fewest in (("train", 4), ("dev", 2), ("test", 2)):
        counts = Counter(known[name].language for name in view.splits[split])
        assert counts == dict.fromkeys(COUNTS, fewest)
        assert {known[name].split for name in view.splits[split]} == {split}
    assert common_voice.plan(source).views == plan.views
    assert common_voice.plan(source, seed=1).views != plan.views


def test_recognition_of_each_language(plan: Preparation) -> None:
    views = {view.folder: view for view in plan.views if view.folder.startswith("asr/")}
    assert views.keys() == {"asr/de", "asr/en", "asr/zh-CN"}
    assert [len(views["asr/de"].splits[split]) for split in SPLITS] == [12, 3, 3]
    assert (views["asr/en"].name, views["asr/en"].fold) == ("asr-en", "")  # no fold: languages are not averaged


def test_fewer_languages_and_clips(source: Path) -> None:
    plan = common_voice.plan(source, languages=["en", "de"], max_clips=5)
    counts = Counter((item.language, item.split) for item in plan.items)
    assert counts == {
        ("en", "train"): 5,
        ("en", "dev"): 2,
        ("en", "test"): 2,
        ("de", "train"): 5,
        ("de", "dev"): 3,
        ("de", "test"): 3,
    }
    numbers = [int(item.id.split("train")[1]) for item in plan.items if (item.language, item.split) == ("de", "train")]
    assert numbers == sorted(numbers)
    assert numbers != [0, 1, 2, 3, 4]  # drawn, not the first
    assert [view.folder for view in common_voice.plan(source, languages="en").views] == ["asr/en"]
    with pytest.raises(UserError, match=r"languages=\['fr'\]: not all are in .*; it has de, en, zh-CN"):
        common_voice.plan(source, languages="fr")
    with pytest.raises(UserError, match="max_clips=0 leaves nothing"):
        common_voice.plan(source, max_clips=0)


def test_where_the_source_may_point(source: Path, plan: Preparation, tmp_path: Path) -> None:
    assert common_voice.plan(source.parent).items == plan.items
    one = common_voice.plan(source / "en")
    assert {item.language for item in one.items} == {"en"}
    assert one.name == plan.name
    assert common_voice.plan(source / "en", release="mine").name == "common_voice-mine"
    for name in ("cv-corpus-1", "cv-corpus-2"):
        release(tmp_path / name, Path.touch, {"en": (1, 1, 1)})
    with pytest.raises(UserError, match="has several releases; give one: cv-corpus-1, cv-corpus-2"):
        common_voice.plan(tmp_path)


def test_a_language_without_dev_is_in_no_view(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = common_voice.plan(release(tmp_path / "any", Path.touch, {"en": (3, 1, 1), "xx": (2, 0, 1)}))
    assert "without clips in train, dev or test, so in no view: xx" in caplog.text
    assert [view.folder for view in plan.views] == ["asr/en"]
    assert plan.name == "common_voice"
    assert "does not tell the release" in caplog.text


def test_prepared(tmp_path: Path, write_audio: Callable[..., Path]) -> None:
    counts = {"de": (3, 1, 1), "en": (2, 1, 1)}
    source = release(tmp_path / "cv-corpus-1", lambda path: write_audio(path, 0.3, 32000, format="MP3"), counts)
    (source / "de" / "clips" / "common_voice_de_train0.mp3").unlink()
    out = prepare("common_voice", source, tmp_path / "out", progress=False, languages=["de", "en"])
    corpus = open_corpus(out)
    assert corpus.info["sampling_rates"] == {"32000": 8}
    assert [skipped["id"] for skipped in corpus.info["skipped"]] == ["de-common_voice_de_train0"]
    lid = open_corpus(out / "lid")
    assert set(lid.table("train").column("language")) == {"de", "en"}
    assert [path.name for path in fold_folders(out / "asr")] == ["de", "en"]


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no train\.tsv and no .*commonvoice\.mozilla\.org"):
        common_voice.plan(tmp_path)
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "train.tsv").write_text("client_id\tpath\tsentence\n")
    with pytest.raises(UserError, match=r"train\.tsv has no column 'gender'"):
        common_voice.plan(tmp_path)
