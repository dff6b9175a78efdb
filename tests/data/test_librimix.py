"""LibriMix: who speaks when, from alignments of the utterances or of the mixtures, or from whole utterances."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl import registry
from speechssl.data.corpora import librimix
from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

MIXTURES = {
    "train-100": ["103-1240-0001_14-208-0000", "14-208-0001_103-1240-0000"],
    "dev": ["84-121123-0000_116-288045-0000"],
    "test": ["1089-134686-0001_61-70968-0002"],
}
RTTMS = {  # as published: the recordings are named without the speaker
    "train_clean_100": """SPEAKER 1240-0001 1 0.44 0.31 <NA> <NA> 103 <NA> <NA>
SPEAKER 1240-0001 1 0.10 0.20 <NA> <NA> 103 <NA> <NA>
SPEAKER 1240-0000 1 0.00 0.50 <NA> <NA> 103 <NA> <NA>
SPEAKER 208-0000 1 0.25 0.50 <NA> <NA> 14 <NA> <NA>
SPEAKER 208-0001 1 0.25 0.25 <NA> <NA> 14 <NA> <NA>
""",
    "dev_clean": """SPEAKER 121123-0000 1 0.1 0.2 <NA> <NA> 84 <NA> <NA>
SPEAKER 288045-0000 1 0 1 <NA> <NA> 116 <NA> <NA>
""",
    "test_clean": "SPEAKER 134686-0001 1 0.1 0.2 <NA> <NA> 1089 <NA> <NA>\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small copy as the scripts make it, with the repository's metadata above it."""
    folder = tmp_path / "Libri2Mix" / "wav16k" / "max"
    (folder / "metadata").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, names in MIXTURES.items():
        (folder / part / "mix_both").mkdir(parents=True)
        rows = ["mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length"]
        for name in names:
            soundfile.write(folder / part / "mix_both" / f"{name}.wav", 0.1 * rng.standard_normal(16000), 16000)
            rows.append(f"{name},/elsewhere/{name}.wav,/elsewhere/s1.wav,/elsewhere/s2.wav,/elsewhere/noise.wav,16000")
        (folder / "metadata" / f"mixture_{part}_mix_both.csv").write_text("\n".join(rows) + "\n")
    labels = tmp_path / "metadata" / "LibriSpeech"
    labels.mkdir(parents=True)
    for name, text in RTTMS.items():
        (labels / f"{name}.rttm").write_text(text)
    return tmp_path


def test_turns_of_both_speakers_in_order(source: Path) -> None:
    plan = librimix.plan(source)
    activity = {item.id: item.custom.get("activity") for item in plan.items}
    assert activity["103-1240-0001_14-208-0000"] == [["103", 0.1, 0.3], ["14", 0.25, 0.75], ["103", 0.44, 0.75]]
    assert activity["14-208-0001_103-1240-0000"] == [["103", 0.0, 0.5], ["14", 0.25, 0.5]]
    assert activity["84-121123-0000_116-288045-0000"] == [["116", 0.0, 1.0], ["84", 0.1, 0.3]]
    assert activity["1089-134686-0001_61-70968-0002"] is None  # no alignment of the second utterance
    assert all(item.speaker is None for item in plan.items)
    assert plan.views[0].splits["train"] == MIXTURES["train-100"]
    assert plan.coverage["train mixtures"] == {"found": 2, "published": 2}


def test_prepared(source: Path, tmp_path: Path) -> None:
    (source / "Libri2Mix/wav16k/max/train-100/mix_both/14-208-0001_103-1240-0000.wav").write_bytes(b"RIFF")
    out = prepare("librimix", source / "Libri2Mix", tmp_path / "out", progress=False)
    corpus = open_corpus(out / "sd")
    assert {split: len(corpus.table(split)) for split in corpus.splits} == {"train": 1, "dev": 1, "test": 1}
    assert corpus.table("dev").column("activity") == [[["116", 0.0, 1.0], ["84", 0.1, 0.3]]]
    assert corpus.table("test").column("activity") == [None]
    assert corpus.info["left_out"] == ["14-208-0001_103-1240-0000"]
    assert len(registry.module("downstream", "sd").TASK(corpus).dataset("train").cuts) == 1


@pytest.mark.parametrize("inside", [".", "Libri2Mix", "Libri2Mix/wav16k/max"])
def test_where_the_mixtures_are(source: Path, inside: str) -> None:
    assert len(librimix.plan(source / inside).items) == 4


def test_alignments_of_the_mixtures(source: Path, tmp_path: Path) -> None:
    """As the Kaldi folders have them, with tabs: `data/train/rttm`, ..."""
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    name = MIXTURES["train-100"][0]
    (folder / "rttm").write_text(
        f"SPEAKER\t{name}\t1\t0.5\t0.25\t<NA>\t<NA>\t14\t<NA>\nSPEAKER\t{name}\t1\t0.1\t0.2\t<NA>\t<NA>\t103\t<NA>\n"
    )
    plan = librimix.plan(source, labels=str(tmp_path / "data"))
    assert plan.items[0].custom["activity"] == [["103", 0.1, 0.3], ["14", 0.5, 0.75]]
    assert all("activity" not in item.custom for item in plan.items[1:])


def test_whole_utterances(source: Path, tmp_path: Path) -> None:
    labels = tmp_path / "lists"
    labels.mkdir()
    rows = [
        "speaker_ID,sex,subset,length,origin_path",
        "103,F,train-clean-100,8000,train-clean-100/103/1240/103-1240-0001.flac",
        "14,F,train-clean-360,16000,train-clean-360/14/208/14-208-0000.flac",
    ]
    (labels / "train-clean-100.csv").write_text("\n".join(rows) + "\n")
    plan = librimix.plan(source, activity="spans", labels=str(labels))
    assert plan.items[0].custom["activity"] == [["103", 0.0, 0.5], ["14", 0.0, 1.0]]


def test_three_speakers(source: Path, tmp_path: Path) -> None:
    assert librimix._activity("103-1240-0000_14-208-0001_84-1-2", {"1240-0000": [("103", 0.0, 1.0)]}) is None
    known = {"1240-0000": [("103", 0.5, 1.0)], "208-0001": [("14", 0.2, 1.0)], "84-1-2": [("84", 0.1, 0.2)]}
    turns = librimix._activity("103-1240-0000_14-208-0001_84-1-2", known)
    assert turns == [["84", 0.1, 0.2], ["14", 0.2, 1.0], ["103", 0.5, 1.0]]


def test_wrong_input_is_one_clear_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPEECHSSL_DATA", raising=False)
    with pytest.raises(UserError, match=r"LibriMix is generated, not fetched: run generate_librimix.sh"):
        librimix.plan()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match=r"holds no Libri2Mix/wav16k/max with metadata and dev"):
        librimix.plan(empty)
    with pytest.raises(UserError, match=r"no RTTM files in .*options\.labels=.*options\.activity=spans"):
        librimix.plan(source, labels=str(empty))
    with pytest.raises(UserError, match=r"no lists of LibriSpeech utterances"):
        librimix.plan(source, labels=str(empty), activity="spans")
    with pytest.raises(UserError, match=r"activity=vad is unknown; expected alignments or spans"):
        librimix.plan(source, activity="vad")
    with pytest.raises(UserError, match=r"mixture_train-100_mix_clean.csv cannot be read"):
        librimix.plan(source, kind="mix_clean")
    (empty / "other.rttm").write_text("SPEAKER other 1 0.1 0.2 <NA> <NA> 84 <NA> <NA>\n")
    with pytest.raises(UserError, match=r"none of the 4 mixtures is in the labels"):
        librimix.plan(source, labels=str(empty))
