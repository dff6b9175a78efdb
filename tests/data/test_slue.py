"""SLUE: sentiment with cut recordings, entities as spans of words, test sets with and without labels."""

import logging
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import slue
from speechssl.data.cuts import open_corpus
from speechssl.data.items import Item
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

FOLDERS = {"train": "fine-tune", "dev": "dev", "test": "test"}
SENTIMENTS = ("Neutral", "Positive", "<mixed>", "Negative", "Disagreement")
SPEECHES = [  # text and entities, as in the table
    ("europe's farmers agree with mr. schulz.", "[['LOC', 0, 6], ['PERSON', 32, 6]]"),
    ("it was forty two years ago, in strasbourg", "[['DATE', 7, 19], ['GPE', 31, 10], ['EVENT', 0, 2]]"),
    ("thank you, madam", "None"),
    ("", "[]"),
]
COUNTS = {"train": 60, "dev": 10, "test": 5}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def voxceleb(root: Path, write: Callable[[Path], object], blind: bool = True, counts: dict = COUNTS) -> Path:
    folder = root / "slue-voxceleb"
    for split, name in FOLDERS.items():
        columns = ["id", "normalized_text", "speaker_id", "split", "sentiment", "start_second", "end_second"]
        hidden = blind and split == "test"
        if hidden:
            columns = ["id", "speaker_id", "start_second", "end_second"]
        lines = ["\t".join(columns)]
        for number in range(counts[split]):
            row = {
                "id": f"id1{split}_{number}",
                "normalized_text": '"i think, it\'s ""great"""',
                "speaker_id": f"id1{split}{number % 20}",
                "split": name,
                "sentiment": SENTIMENTS[number % 5],
                "start_second": "0.1",
                "end_second": "0.45",
            }
            lines.append("\t".join(row[column] for column in columns))
            write(folder / f"{name}_raw" / f"{row['id']}.flac")
        (folder / f"slue-voxceleb_{name}{'_blind' if hidden else ''}.tsv").write_text("\n".join(lines) + "\n")
    return root


def voxpopuli(root: Path, write: Callable[[Path], object], blind: bool = True, counts: dict = COUNTS) -> Path:
    folder = root / "slue-voxpopuli"
    for split, name in FOLDERS.items():
        columns = ["id", "raw_text", "normalized_text", "speaker_id", "split", "raw_ner", "normalized_ner"]
        hidden = blind and split == "test"
        lines = ["\t".join(columns[:5] if hidden else columns)]
        for number in range(counts[split]):
            text, entities = SPEECHES[number % 4]
            row = [f"2013-{split}:{number}", "", text, "None" if number % 2 else "125020", name, "[]", entities]
            lines.append("\t".join(row[: 5 if hidden else 7]))
            write(folder / name / f"{row[0]}.ogg")
        (folder / f"slue-voxpopuli_{name}{'_blind' if hidden else ''}.tsv").write_text("\n".join(lines) + "\n")
    return root


def entities(item: Item) -> list[tuple[str, str]]:
    return [(name, " ".join(item.text.split()[first:end])) for name, first, end in item.custom["entities"]]


def test_entities_are_spans_of_words(tmp_path: Path) -> None:
    plan = slue.plan(voxpopuli(tmp_path, touch))
    known = {item.id: item for item in plan.items}
    first = known["voxpopuli-2013-train:0"]
    assert first.text == "EUROPE 'S FARMERS AGREE WITH MR SCHULZ"
    assert entities(first) == [("PLACE", "EUROPE"), ("PERSON", "SCHULZ")]
    second = known["voxpopuli-2013-train:1"]
    assert second.text == "IT WAS FORTY TWO YEARS AGO IN STRASBOURG"
    assert entities(second) == [("WHEN", "FORTY TWO YEARS AGO"), ("PLACE", "STRASBOURG")]  # an event is left out
    assert known["voxpopuli-2013-train:2"].custom == {"entities": []}
    assert known["voxpopuli-2013-train:3"].text is None
    assert known["voxpopuli-2013-train:3"].custom == {}
    assert (first.speaker, second.speaker) == ("voxpopuli-125020", None)
    assert known["voxpopuli-2013-test:0"].text == "EUROPE'S FARMERS AGREE WITH MR SCHULZ"
    assert "entities" not in known["voxpopuli-2013-test:0"].custom
    assert plan.coverage["voxpopuli dev"] == {"found": 10, "published": 1753}


def test_sentiments(tmp_path: Path) -> None:
    plan = slue.plan(voxceleb(tmp_path, touch, blind=False))
    known = {item.id: item for item in plan.items}
    assert Counter(item.custom.get("sentiment") for item in plan.items if item.split == "train") == {
        "neutral": 12,
        "positive": 12,
        "negative": 12,
        None: 24,
    }
    item = known["voxceleb-id1train_1"]
    assert (item.text, item.speaker) == ("I THINK IT'S GREAT", "voxceleb-id1train1")
    assert (item.start, item.duration) == (0.1, pytest.approx(0.35))
    (view,) = plan.views
    assert (view.folder, view.name, view.fold) == ("sentiment", "sentiment", "")
    assert {split: len(ids) for split, ids in view.splits.items()} == {"train": 36, "dev": 6, "test": 3}


def test_without_labels_of_test_dev_is_tested(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plan = slue.plan(voxpopuli(voxceleb(tmp_path, touch), touch))
    views = {view.folder: view for view in plan.views}
    assert views.keys() == {"sentiment", "ner"}
    known = {item.id: item for item in plan.items}
    for name, view in views.items():
        assert view.name == f"{name}-tested-on-dev"
        assert f"{name} tests on dev" in caplog.text
        assert {known[i].split for i in view.splits["test"]} == {"dev"}
        assert {known[i].split for split in ("train", "dev") for i in view.splits[split]} == {"train"}
    speakers = {split: {known[i].speaker for i in ids} for split, ids in views["sentiment"].splits.items()}
    assert speakers["dev"]
    assert not speakers["dev"] & speakers["train"]
    assert {item.split for item in plan.items} == {"train", "dev", "test"}  # all of it, for pretraining


def test_recordings_that_the_project_cut(tmp_path: Path) -> None:
    source = voxceleb(tmp_path, touch)
    (source / "slue-voxceleb" / "dev_raw").rename(source / "slue-voxceleb" / "dev")
    items = {item.id: item for item in slue.plan(source / "slue-voxceleb").items}
    item = items["voxceleb-id1dev_0"]
    assert Path(item.audio).parts[-2:] == ("dev", "id1dev_0.flac")
    assert (item.start, item.duration) == (0.0, None)


def test_prepared(tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    counts = {"train": 6, "dev": 3, "test": 2}
    source = voxceleb(tmp_path / "source", lambda path: write_audio(path, 0.5), blind=False, counts=counts)
    voxpopuli(source, lambda path: write_audio(path, 0.3, 48000), blind=False, counts=counts)
    (source / "slue-voxpopuli" / "dev" / "2013-dev:1.ogg").unlink()
    with caplog.at_level(logging.WARNING):
        out = prepare("slue", source, tmp_path / "out", progress=False)
    assert "slue is incomplete: 6 voxceleb train of 5777" in caplog.text
    assert "2 voxpopuli dev of 1753" in caplog.text
    sentiment, ner = open_corpus(out / "sentiment"), open_corpus(out / "ner")
    assert set(sentiment.table("test").column("sentiment")) == {"neutral", "positive"}
    assert set(sentiment.table("train").num_samples.tolist()) == {5600}  # 0.35 s of 0.5
    assert ner.info["left_out"] == ["voxpopuli-2013-dev:1"]
    assert sorted(map(len, ner.table("train").column("entities"))) == [0, 2, 2, 2, 2]
    assert len(open_corpus(out).table("train")) == 12


def test_without_any_copy_both_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = voxpopuli(voxceleb(tmp_path / "source", touch), touch)
    for corpus in slue.PUBLISHED:
        with tarfile.open(tmp_path / f"slue-{corpus}_blind.tar.gz", "w:gz") as packed:
            packed.add(source / f"slue-{corpus}", f"slue-{corpus}")
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(slue, "URL", tmp_path.as_uri())
    expected = slue.plan(source)
    assert slue.plan().views == expected.views
    for corpus in slue.PUBLISHED:
        (tmp_path / f"slue-{corpus}_blind.tar.gz").unlink()
    assert [item.id for item in slue.plan().items] == [item.id for item in expected.items]  # now from the cache


@pytest.mark.parametrize(
    ("corpus", "old", "new", "message"),
    [
        ("voxpopuli", "[['LOC', 0, 6]", "[['LOC', 0]", r"expected such as \[\['LAW', 86, 18\]\] for 2013-dev:0"),
        ("voxpopuli", "['LOC', 0, 6]", "['LOC', 0, 600]", r"characters 0 to 600 \(PLACE\) are not in the text"),
        ("voxceleb", "0.45", "?", r"end_second of id1dev_0 is '\?'; expected seconds"),
        ("voxceleb", "start_second", "start", r"slue-voxceleb_dev\.tsv has no column 'start_second'"),
    ],
)
def test_damaged_tables(tmp_path: Path, corpus: str, old: str, new: str, message: str) -> None:
    source = {"voxceleb": voxceleb, "voxpopuli": voxpopuli}[corpus](tmp_path, touch)
    table = source / f"slue-{corpus}" / f"slue-{corpus}_dev.tsv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        slue.plan(source)
    assert "\n" not in str(caught.value)


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no part of SLUE; expected slue-voxceleb/slue-voxceleb_fine-tune\.tsv"):
        slue.plan(tmp_path)
