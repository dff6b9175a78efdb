"""Free Spoken Digit Dataset: 3,000 single digits by six speakers; downloaded where no source= is given.

Z. Jackson et al., https://github.com/Jakobovski/free-spoken-digit-dataset. 8 kHz, named
`{digit}_{speaker}_{index}.wav`. The official rule is kept: index 0-4 is the test set. Of the others, 5-9 is
our dev set and 10-49 is trained on, so all six speakers are in every split.

Beside the plain manifests (single digits; column `keyword` = "zero" .. "nine"), in folders below the
corpus:

- `ks60/draw0` .. `draw4`: training sets of one take per digit and speaker (60 labels), no take in two
  draws.
- `loso/<speaker>`: five speakers to train and select on, indices 0-9 of the sixth to test on. Nothing of
  the held-out speaker is in train or dev: whoever pretrains on this manifest has never heard the voice.
- `strings`: three to five takes of one speaker joined with short pauses, for connected-digit recognition.
  Every train and dev take is in one string, every test take in two. Splits follow those of the takes.
- `strings60`: the same with 60 of the training strings, ten per speaker.
- `asv/fold1` .. `fold3`: strings for speaker verification. Two speakers are tested who are in neither train nor
  dev; dev has trials of the four others, in strings that training does not have. Two voices per fold are few: read
  all folds together.
"""

import functools
import logging
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from speechssl.data.archive import fetch_files
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.data.joined import join_recordings
from speechssl.data.splits import hash64
from speechssl.data.trials import draw_trials, trials_by_first
from speechssl.errors import UserError

COMMIT = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
URL = f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{COMMIT}.zip"
CONTENT_SHA256 = "6b1a8e30f4df78a933fe25cf1ca0140c8c6f169c0a83649a15b70a5ae7407014"  # of all recordings
LICENCE = (
    "CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/). Free Spoken Digit Dataset, Z. Jackson "
    "et al., https://github.com/Jakobovski/free-spoken-digit-dataset. Changed: resampled to 16 kHz, digits "
    "joined to strings. What derives from the audio carries the same licence."
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_RECORDINGS = 3000  # 10 digits x 6 speakers x 50 takes
MALE = ("george", "jackson", "nicolas", "theo", "yweweler")  # by its metadata.py, which leaves lucas out
NUM_DRAWS = 5
STRINGS_PER_SPEAKER = 10  # of strings60
STRING_RATE = 8000  # Hz, that of the recordings: strings are joined before anything is resampled
NUM_FOLDS = 3  # of asv
ASV_TRIALS = {"dev": 400, "test": 1000}
FILE_NAME = re.compile(r"(\d)_([A-Za-z]+)_(\d+)\.wav")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Take:
    """One recording of one digit."""

    path: Path
    digit: int
    speaker: str
    index: int

    @property
    def id(self) -> str:
        return self.path.stem

    @property
    def split(self) -> str:
        return "test" if self.index < 5 else "dev" if self.index < 10 else "train"


def plan(source: str | Path | None = None, *, seed: int = 0) -> Preparation:
    """List the takes, their official split and the views.

    Args:
        source: the repository's folder or its `recordings`; None = $SPEECHSSL_DATA/fsdd where that exists,
            else a download into the user's cache folder.
        seed: of the draws of ks60, and of which digits make up a string.
    """
    takes = _scan(_find(source))
    strings = _strings(takes, seed)
    items = [_single(take) for take in takes] + [item for split in strings.values() for item in split]
    views = [*_few_labels(takes, seed), *_leave_one_out(takes), *_string_views(strings, seed)]
    views += _verification(strings, seed)
    return Preparation("fsdd", items, LICENCE, views)


def _find(source: str | Path | None) -> Path:
    """Return the folder of recordings."""
    if source is None:
        source = local_copy("fsdd")
    if source is None:
        return fetch_files(URL, cache_folder() / f"fsdd-{COMMIT[:8]}", _is_recording, CONTENT_SHA256)
    source = Path(source)
    if not source.is_dir():
        raise UserError(f"source={source} is not a folder; expected a copy of the Free Spoken Digit Dataset")
    return source / "recordings" if (source / "recordings").is_dir() else source


def _is_recording(name: PurePosixPath) -> bool:
    return name.parent.name == "recordings" and FILE_NAME.fullmatch(name.name) is not None


def _scan(folder: Path) -> list[Take]:
    """Return all takes in the folder, sorted by file name; tells what is missing."""
    takes = []
    for path in sorted(folder.iterdir()):
        if match := FILE_NAME.fullmatch(path.name):
            takes.append(Take(path, int(match[1]), match[2], int(match[3])))
    if not takes:
        raise UserError(f"no recordings in {folder}; expected files such as 7_jackson_32.wav")
    speakers = sorted({take.speaker for take in takes})
    coverage = f"{len(takes)} recordings of {NUM_RECORDINGS}, {len(speakers)} speakers ({', '.join(speakers)})"
    if len(takes) < NUM_RECORDINGS:
        logger.warning("fsdd is incomplete: %s; results will not compare with those on all of it", coverage)
    else:
        logger.info("fsdd: %s", coverage)
    return takes


def _single(take: Take) -> Item:
    word = DIGITS[take.digit]
    return Item(
        take.id,
        str(take.path),
        take.split,
        speaker=take.speaker,
        gender=_gender(take.speaker),
        text=word.upper(),
        language="en",
        custom={"keyword": word},
    )


def _gender(speaker: str) -> str | None:
    return "male" if speaker in MALE else None


def _ids(takes: list[Take], split: str) -> list[str]:
    return [take.id for take in takes if take.split == split]


def _few_labels(takes: list[Take], seed: int) -> list[View]:
    cells: dict[tuple[int, str], list[Take]] = defaultdict(list)
    for take in takes:
        if take.split == "train":
            cells[take.digit, take.speaker].append(take)
    for cell in cells.values():
        cell.sort(key=lambda take: hash64(f"ks60/{seed}/{take.id}"))
    views = []
    for draw in range(NUM_DRAWS):
        train = [cell[draw].id for cell in cells.values() if draw < len(cell)]
        splits = {"train": train, "dev": _ids(takes, "dev"), "test": _ids(takes, "test")}
        views.append(View(f"ks60/draw{draw}", "ks60", f"draw{draw}", splits))
    return _complete(views)


def _leave_one_out(takes: list[Take]) -> list[View]:
    views = []
    for speaker in sorted({take.speaker for take in takes}):
        others = [take for take in takes if take.speaker != speaker]
        held_out = [take.id for take in takes if take.speaker == speaker and take.split != "train"]
        splits = {"train": _ids(others, "train"), "dev": _ids(others, "dev"), "test": held_out}
        views.append(View(f"loso/{speaker}", "loso", speaker, splits))
    return _complete(views)


def _complete(views: list[View]) -> list[View]:
    """Leave out the views that an incomplete corpus cannot fill."""
    return [view for view in views if all(view.splits.values())]


def _strings(takes: list[Take], seed: int) -> dict[str, list[Item]]:
    """Return the strings of each split."""
    strings: dict[str, list[Item]] = {}
    for split, uses in (("train", 1), ("dev", 1), ("test", 2)):
        strings[split] = []
        for speaker in sorted({take.speaker for take in takes}):
            pool = [take for take in takes if (take.split, take.speaker) == (split, speaker)]
            dealt = [string for use in range(uses) for string in _deal(pool, f"{seed}/{use}")]
            names = (f"string-{split}-{speaker}-{number:03d}" for number in range(len(dealt)))
            strings[split] += [_string(name, string, seed) for name, string in zip(names, dealt, strict=True)]
    return strings


def _deal(takes: list[Take], key: str) -> list[list[Take]]:
    """Divide all takes into strings of three to five; none where there are fewer than three takes."""
    rest = sorted(takes, key=lambda take: hash64(f"strings/{key}/{take.id}"))
    strings = []
    while len(rest) >= 3:
        lengths = [n for n in (3, 4, 5) if len(rest) == n or len(rest) - n >= 3]  # leaves no one or two over
        length = lengths[hash64(f"length/{key}/{rest[0].id}") % len(lengths)]
        strings.append(rest[:length])
        rest = rest[length:]
    return strings


def _string(name: str, takes: list[Take], seed: int) -> Item:
    speaker, paths = takes[0].speaker, tuple(str(take.path) for take in takes)
    return Item(
        name,
        functools.partial(join_recordings, paths, STRING_RATE, f"{seed}/{name}"),
        "",  # strings are in their own views only: the plain manifests hold every take once
        speaker=speaker,
        gender=_gender(speaker),
        text=" ".join(DIGITS[take.digit].upper() for take in takes),
        language="en",
        custom={"takes": " ".join(take.id for take in takes)},
    )


def _verification(strings: dict[str, list[Item]], seed: int) -> list[View]:
    """Return the folds of speaker verification; none where speakers are missing."""
    speakers = sorted({item.speaker for items in strings.values() for item in items})
    if len(speakers) < 2 * NUM_FOLDS:
        return []
    distinct = strings["train"] + strings["dev"]  # takes of test strings are in two of them each
    pairs = [speakers[number::NUM_FOLDS] for number in range(NUM_FOLDS)]
    views = []
    for number, held_out in enumerate(pairs, start=1):
        fold = f"fold{number}"
        test = [item for item in distinct if item.speaker in held_out]
        train, dev = ([item for item in strings[s] if item.speaker not in held_out] for s in ("train", "dev"))
        columns: dict[str, list] = {}
        for split, items in (("dev", dev), ("test", test)):
            pools: dict[str, list[str]] = defaultdict(list)
            for item in items:
                pools[item.speaker].append(item.id)
            drawn = draw_trials(pools, ASV_TRIALS[split], f"fsdd/{fold}/{split}/{seed}", str)
            columns |= trials_by_first(drawn)
        splits = {"train": train, "dev": dev, "test": test}
        ids = {split: [item.id for item in items] for split, items in splits.items()}
        views.append(View(f"asv/{fold}", "asv", fold, ids, {"trials": columns}))
    return _complete(views)


def _string_views(strings: dict[str, list[Item]], seed: int) -> list[View]:
    splits = {split: [item.id for item in items] for split, items in strings.items()}
    by_speaker: dict[str | None, list[str]] = defaultdict(list)
    for item in strings["train"]:
        by_speaker[item.speaker].append(item.id)
    few: list[str] = []
    for names in by_speaker.values():
        names.sort(key=lambda name: hash64(f"strings60/{seed}/{name}"))
        few += names[:STRINGS_PER_SPEAKER]
    views = [
        View("strings", "strings", "", splits),
        View("strings60", "strings60", "", splits | {"train": few}),
    ]
    return _complete(views)
