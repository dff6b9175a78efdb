from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, Recording, SupervisionSegment

from speechssl.data import parts
from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import UserError


@pytest.fixture
def manifest(tmp_path: Path, write_audio: Callable[..., Path]) -> Path:
    """Write twelve cuts: plain ones at three rates, one stereo, one excerpt, one mixed."""
    cuts = []
    for i in range(12):
        channels = 2 if i == 3 else 1
        path = write_audio(tmp_path / "in" / f"{i}.flac", 1.0, (16000, 8000, 44100)[i % 3], i, channels)
        cut = Recording.from_file(path).to_cut().with_id(f"cut{i}")
        cut.supervisions = [SupervisionSegment("s", "r", 0.0, 1.0, text=f"TEXT {i}", speaker=f"s{i % 2}", gender="f")]
        cut.intent = "go"
        cuts.append(cut)
    cuts[4] = cuts[4].truncate(offset=0.25, duration=0.5, preserve_id=True)
    cuts[5] = cuts[5].resample(16000).append(cuts[6]).with_id("mixed")
    CutSet.from_cuts(cuts).to_file(tmp_path / "in" / "cuts.jsonl.gz")
    return tmp_path / "in" / "cuts.jsonl.gz"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_manifest_is_packed_as_it_reads(manifest: Path, tmp_path: Path, workers: int, monkeypatch) -> None:
    monkeypatch.setattr(parts, "PART_ITEMS", 6)
    corpus = open_corpus(prepare("lhotse", manifest, tmp_path / "out", workers=workers, progress=False))
    before = open_corpus(manifest).table("train")
    assert corpus.splits == ["train", "dev"]
    assert corpus.info["skipped"] == []
    seen = 0
    for split in corpus.splits:
        table = corpus.table(split)
        for row, identifier in enumerate(table.ids):
            old = before.ids.index(identifier)
            np.testing.assert_allclose(table.read(row), before.read(old), atol=2e-5)
            for column in ("text", "speaker", "gender", "intent"):
                assert table.column(column)[row] == before.column(column)[old]
            seen += 1
    assert seen == 12


def test_a_folder_of_manifests_keeps_its_splits(manifest: Path, tmp_path: Path) -> None:
    cuts = list(CutSet.from_file(manifest))
    (tmp_path / "set").mkdir()
    for split, chosen in (("train", cuts[:8]), ("test", cuts[8:])):
        CutSet.from_cuts(chosen).to_file(tmp_path / "set" / f"{split}.jsonl.gz")
    corpus = open_corpus(prepare("lhotse", tmp_path / "set", tmp_path / "out", progress=False))
    assert (corpus.name, corpus.splits) == ("set", ["train", "test"])
    assert len(corpus.table("test")) == 4


def test_a_single_manifest_gets_a_test_split_on_request(manifest: Path, tmp_path: Path) -> None:
    out = prepare("lhotse", manifest, tmp_path / "out", dev_share=0.2, test_share=0.3, progress=False)
    corpus = open_corpus(out)
    assert corpus.splits == ["train", "dev", "test"]
    assert sum(len(corpus.table(split)) for split in corpus.splits) == 12


def test_the_cuts_of_a_speaker_stay_together(manifest: Path, tmp_path: Path) -> None:
    out = prepare("lhotse", manifest, tmp_path / "out", test_share=0.3, group_by="speaker", progress=False)
    corpus = open_corpus(out)
    speakers = [set(corpus.table(split).column("speaker")) - {None} for split in corpus.splits]
    assert sorted(name for own in speakers for name in own) == ["s0", "s1"]


def test_splits_that_a_folder_lacks_come_from_its_train_split(manifest: Path, tmp_path: Path) -> None:
    cuts = list(CutSet.from_file(manifest))
    (tmp_path / "set").mkdir()
    for split, chosen in (("train", cuts[:10]), ("test", cuts[10:])):
        CutSet.from_cuts(chosen).to_file(tmp_path / "set" / f"{split}.jsonl.gz")
    corpus = open_corpus(prepare("lhotse", tmp_path / "set", tmp_path / "out", dev_share=0.3, progress=False))
    assert corpus.splits == ["train", "dev", "test"]
    assert sorted(corpus.table("test").ids) == sorted(cut.id for cut in cuts[10:])
    with pytest.raises(UserError, match="has a split 'test' of its own; leave out"):
        prepare("lhotse", tmp_path / "set", tmp_path / "other", test_share=0.3, progress=False)


def test_a_split_can_be_named(manifest: Path, tmp_path: Path) -> None:
    corpus = open_corpus(prepare("lhotse", manifest, tmp_path / "out", split="test", progress=False))
    assert corpus.splits == ["test"]


def test_a_prepared_corpus_can_be_packed_again(audio_tree: Callable[..., Path], tmp_path: Path) -> None:
    first = prepare("folder", audio_tree(12), tmp_path / "first", progress=False)
    second = prepare("lhotse", first, tmp_path / "second", progress=False, seed=0)
    a, b = (open_corpus(path).table("train") for path in (first, second))
    assert a.ids == b.ids
    for row in range(len(a)):
        np.testing.assert_array_equal(a.read(row), b.read(row))
        assert a.rms(row) == b.rms(row)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (None, {}, "needs source="),
        ("nowhere", {}, "does not exist"),
        (".", {"split": "valid"}, "expected one of"),
        (".", {"split": "test", "test_share": 0.2}, "leave out dev_share and test_share"),
    ],
)
def test_wrong_input(tmp_path: Path, source: str | None, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare("lhotse", source, tmp_path / "out", **options)


def test_shares_and_groups_that_cannot_be(manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave something to train"):
        prepare("lhotse", manifest, tmp_path / "out", test_share=1.0)
    with pytest.raises(UserError, match=r"group_by=spekaer names a column that no cut has .*columns: .*speaker"):
        prepare("lhotse", manifest, tmp_path / "out", group_by="spekaer")
