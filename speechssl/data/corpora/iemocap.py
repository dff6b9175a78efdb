"""IEMOCAP: twelve hours of acted emotion, five sessions of two actors each; source= is your own copy.

C. Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources and Evaluation
42, 2008, https://sail.usc.edu/iemocap: `Session<n>/sentences/wav/<dialog>/<utterance>.wav` and the evaluators' verdict
in the summary lines of `Session<n>/dialog/EmoEvaluation/<dialog>.txt`.

Columns: `label` = the verdict (ang, exc, fru, ..., xxx where they did not agree), `emotion` = one of SUPERB's four
classes, where excitement (exc) counts as happiness (hap), and of other verdicts nothing; `act` = improvised or
scripted, `fold` = the session, `source_id` = the dialog. The plain manifests (train and a small dev, dialogs kept
together) hold all utterances, for pretraining. Views:

- `er/fold1` .. `er/fold5`: SUPERB's emotion recognition (Yang et al., 2021, https://arxiv.org/abs/2105.01051): test on
  one session, and of the other four a random fifth for dev, so that dev has the speakers of train. Ours is drawn by a
  hash of the id, where s3prl draws with a generator; `dev=session` keeps a session for dev instead.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from speechssl.data.coverage import coverage
from speechssl.data.folds import fold_views
from speechssl.data.items import Item, Preparation, View
from speechssl.data.own_copy import own_copy
from speechssl.data.splits import hash64
from speechssl.errors import UserError

NAME = "iemocap"
CLASSES = {"neu": "neu", "hap": "hap", "exc": "hap", "ang": "ang", "sad": "sad"}
PUBLISHED = {1: 1085, 2: 1023, 3: 1151, 4: 1031, 5: 1241}  # utterances of the four classes, in s3prl's lists
VERDICT = re.compile(r"\[[\d.]+ - [\d.]+\]\t(Ses\d\d[FM]_\w+)\t(\w+)\t\[")
TURN = re.compile(r"(Ses\d\d[FM]_\w+) \[[\d.]+-[\d.]+\]: *(.*)")
NOT_SAID = re.compile(r"\[[^\]]*\]")  # [LAUGHTER], [BREATHING]
TRAIN_SHARE = 0.8  # of the sessions that are not tested
LICENCE = (
    "Licence agreement with the University of Southern California: research only, not to be passed on "
    "(https://sail.usc.edu/iemocap). C. Busso et al., Language Resources and Evaluation 42, 2008. Changed: stored as "
    "one-channel 16 kHz PCM."
)
HOW = "fill in the form at sail.usc.edu/iemocap, and give the folder IEMOCAP_full_release with Session1 .. Session5"


def plan(source: str | Path | None = None, *, dev: str = "random", seed: int = 0) -> Preparation:
    """List the utterances with their emotions, and the five folds.

    Args:
        source: the folder with `Session1` .. `Session5`, or the one above it; None = $SPEECHSSL_DATA/iemocap.
        dev: "random" = a fifth of the sessions that are not tested, as SUPERB; "session" = the session after the one
            that is tested, whose speakers are then in no other split.
        seed: of the random dev sets.
    """
    if dev not in ("random", "session"):
        raise UserError(f"dev={dev} is unknown; expected random (as SUPERB) or session (new speakers)")
    folder = own_copy(NAME, source, ["Session*/dialog/EmoEvaluation"], ["IEMOCAP_full_release"], HOW)
    items = [item for session in PUBLISHED for item in _session(folder / f"Session{session}", session)]
    if not items:
        raise UserError(f"no evaluated utterance in {folder}; expected lines with verdicts in */EmoEvaluation/*.txt")
    classed = [item for item in items if "emotion" in item.custom]
    there = [item.custom["fold"] for item in classed if Path(item.audio).is_file()]
    found = coverage(NAME, {f"session {fold}": (there.count(fold), count) for fold, count in PUBLISHED.items()})
    views = fold_views(classed, "er", "er") if dev == "session" else _random_dev(classed, seed)
    return Preparation(NAME, items, LICENCE, views, coverage=found)


def _session(folder: Path, session: int) -> Iterator[Item]:
    """Yield every utterance with a verdict, sorted by dialog."""
    for path in sorted((folder / "dialog" / "EmoEvaluation").glob("Ses*.txt")):  # leaves out macOS's ._Ses*.txt
        texts = dict(_matches(TURN, folder / "dialog" / "transcriptions" / path.name))
        for name, verdict in _matches(VERDICT, path):
            yield _item(folder, name, path.stem, session, verdict, texts.get(name))


def _matches(pattern: re.Pattern, path: Path) -> Iterator[tuple[str, str]]:
    """Yield the two groups of each line of a file, if there is one, that matches from its start."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.splitlines():
        if match := pattern.match(line):
            yield match[1], match[2]


def _item(folder: Path, name: str, dialog: str, session: int, verdict: str, text: str | None) -> Item:
    custom = {"label": verdict, "fold": session, "source_id": dialog}
    custom["act"] = "scripted" if "_script" in dialog else "improvised"
    if verdict in CLASSES:
        custom["emotion"] = CLASSES[verdict]
    sex = name.rsplit("_", 1)[1][0]  # who speaks; the letter of the dialog tells who wears the markers
    return Item(
        name,
        str(folder / "sentences" / "wav" / dialog / f"{name}.wav"),
        speaker=f"Ses{session:02d}{sex}",
        gender={"F": "female", "M": "male"}.get(sex),
        text=" ".join(NOT_SAID.sub(" ", text or "").split()) or None,
        language="en",
        custom=custom,
        group=dialog,
    )


def _random_dev(items: list[Item], seed: int) -> list[View]:
    """Return one view per session: test on it, and divide the others at random into train and dev."""
    views = []
    for session in PUBLISHED:
        test = [item.id for item in items if item.custom["fold"] == session]
        rest = [item.id for item in items if item.custom["fold"] != session]
        rest.sort(key=lambda name: hash64(f"er/{seed}/{name}"))
        cut = int(TRAIN_SHARE * len(rest))
        splits = {"train": rest[:cut], "dev": rest[cut:], "test": test}
        views.append(View(f"er/fold{session}", "er", f"fold{session}", splits))
    return [view for view in views if all(view.splits.values())]
