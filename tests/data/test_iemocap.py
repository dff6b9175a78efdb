"""IEMOCAP: verdicts, four classes, who speaks, folds by session."""

import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from speechssl.data.corpora import iemocap
from speechssl.data.cuts import fold_folders, open_corpus
from speechssl.data.items import Preparation
from speechssl.data.prepare import prepare
from speechssl.errors import UserError

VERDICTS = ("neu", "ang", "sad", "hap", "exc", "fru", "xxx")
DIALOGS = ("{}F_impro01", "{}M_script01_1b")
NUM_CLASSED = 2 * 2 * 5  # per session: dialogs x speakers x verdicts that count


def utterances(session: int) -> dict[str, list[tuple[str, str]]]:
    """Return the utterances with their verdicts by dialog."""
    dialogs = [dialog.format(f"Ses{session:02d}") for dialog in DIALOGS]
    return {d: [(f"{d}_{sex}{n:03d}", v) for n, v in enumerate(VERDICTS) for sex in "FM"] for d in dialogs}


def copy_of(root: Path, write: Callable[[Path], object], sessions: range = range(1, 6)) -> Path:
    """Make the published tree: the evaluators' single verdicts follow each summary line."""
    for session in sessions:
        folder = root / f"Session{session}"
        for name in ("EmoEvaluation", "transcriptions"):
            (folder / "dialog" / name).mkdir(parents=True)
        for dialog, spoken in utterances(session).items():
            verdicts, texts = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""], []
            for number, (name, verdict) in enumerate(spoken):
                verdicts += [
                    f"[{number + 0.29:.4f} - {number + 1.2357:.4f}]\t{name}\t{verdict}\t[2.5000, 2.5000, 2.5000]",
                    "C-E2:\tNeutral state;\t()",
                    f"C-F1:\tNeutral;\t(Ses99F_{name})",
                    "A-E3:\tval 3; act 2; dom  2;\t()",
                    "",
                ]
                texts.append(f"{name} [{number:08.4f}-{number + 1:08.4f}]: Excuse me. [LAUGHTER] Yes.")
                write(folder / "sentences" / "wav" / dialog / f"{name}.wav")
            texts += ["M: [BREATHING]", f"{dialog}_FXX0 [001.0000-002.0000]: [BREATHING]"]
            (folder / "dialog" / "EmoEvaluation" / f"{dialog}.txt").write_text("\n".join(verdicts))
            (folder / "dialog" / "EmoEvaluation" / f"._{dialog}.txt").write_bytes(b"\0\5\x16\7\xff[1 - 2]")
            (folder / "dialog" / "transcriptions" / f"{dialog}.txt").write_text("\n".join(texts))
    return root


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.fixture(scope="module")
def names_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(tmp_path_factory.mktemp("iemocap") / "IEMOCAP_full_release", touch)


@pytest.fixture(scope="module")
def plan(names_only: Path) -> Preparation:
    return iemocap.plan(names_only)


def test_verdicts_and_speakers(plan: Preparation) -> None:
    assert len(plan.items) == 5 * 2 * len(VERDICTS) * 2
    known = {item.id: item for item in plan.items}
    item = known["Ses03F_impro01_M004"]  # the woman wears the markers, the man speaks
    assert (item.speaker, item.gender, item.text) == ("Ses03M", "male", "Excuse me. Yes.")
    assert item.custom == {
        "label": "exc",
        "emotion": "hap",
        "fold": 3,
        "source_id": "Ses03F_impro01",
        "act": "improvised",
    }
    item = known["Ses03M_script01_1b_F006"]
    assert (item.speaker, item.gender) == ("Ses03F", "female")
    assert item.custom["act"] == "scripted"
    assert "emotion" not in item.custom
    assert len({item.speaker for item in plan.items}) == 10
    classes = Counter(item.custom.get("emotion") for item in plan.items)
    assert classes == {"neu": 20, "ang": 20, "sad": 20, "hap": 40, None: 40}
    assert plan.coverage["session 4"] == {"found": NUM_CLASSED, "published": 1031}


def test_published_sizes_are_those_of_superb() -> None:
    total = sum(iemocap.PUBLISHED.values())
    assert total == 5531
    assert [(test, total - test) for test in iemocap.PUBLISHED.values()] == [
        (1085, 4446),
        (1023, 4508),
        (1151, 4380),
        (1031, 4500),
        (1241, 4290),
    ]


def test_folds_as_superb_has_them(plan: Preparation, names_only: Path) -> None:
    known = {item.id: item for item in plan.items}
    assert [view.folder for view in plan.views] == [f"er/fold{n}" for n in range(1, 6)]
    for number, view in enumerate(plan.views, 1):
        assert (view.name, view.fold) == ("er", f"fold{number}")
        assert {split: len(ids) for split, ids in view.splits.items()} == {"train": 64, "dev": 16, "test": 20}
        assert len({name for ids in view.splits.values() for name in ids}) == 5 * NUM_CLASSED
        assert {known[name].custom["fold"] for name in view.splits["test"]} == {number}
        assert {known[name].speaker for name in view.splits["dev"]} <= {
            known[name].speaker for name in view.splits["train"]
        }
    again = iemocap.plan(names_only.parent)  # the folder above will do
    assert again.views == plan.views
    assert iemocap.plan(names_only, seed=1).views[0].splits["dev"] != plan.views[0].splits["dev"]


def test_a_session_for_dev(names_only: Path) -> None:
    plan = iemocap.plan(names_only, dev="session")
    known = {item.id: item for item in plan.items}
    view = plan.views[4]
    speakers = {split: {known[name].speaker for name in ids} for split, ids in view.splits.items()}
    assert speakers["test"] == {"Ses05F", "Ses05M"}
    assert speakers["dev"] == {"Ses01F", "Ses01M"}
    assert len(speakers["train"]) == 6
    with pytest.raises(UserError, match=r"dev=speaker is unknown; expected random .* or session"):
        iemocap.plan(names_only, dev="speaker")


def test_prepared_from_two_sessions(
    tmp_path: Path, write_audio: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    source = copy_of(tmp_path / "source", lambda path: write_audio(path, 0.2), range(1, 3))
    (source / "Session2/sentences/wav/Ses02F_impro01/Ses02F_impro01_F000.wav").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        out = prepare("iemocap", source, tmp_path / "out", progress=False)
    assert "iemocap is incomplete: 20 session 1 of 1085, 20 session 2 of 1023, 0 session 3 of 1151" in caplog.text
    corpus = open_corpus(out)
    assert {split: len(corpus.table(split)) for split in corpus.splits}.keys() == {"train", "dev"}
    assert [path.name for path in fold_folders(out / "er")] == ["fold1", "fold2"]
    fold = open_corpus(out / "er" / "fold2")
    assert fold.info["left_out"] == ["Ses02F_impro01_F000"]
    assert len(fold.table("test")) == NUM_CLASSED - 1
    assert set(fold.table("train").column("emotion")) == {"neu", "ang", "sad", "hap"}


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no Session\*/dialog/EmoEvaluation; expected .*sail\.usc\.edu/iemocap"):
        iemocap.plan(tmp_path)
    (tmp_path / "Session1" / "dialog" / "EmoEvaluation").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no evaluated utterance in .*EmoEvaluation/\*\.txt"):
        iemocap.plan(tmp_path)


@pytest.mark.skipif(
    not (Path(os.environ.get("SPEECHSSL_DATA", "")) / "iemocap").is_dir(), reason="needs $SPEECHSSL_DATA/iemocap"
)
def test_the_real_corpus_has_the_published_sizes() -> None:
    found = iemocap.plan().coverage
    assert all(counts["found"] == counts["published"] for counts in found.values())
