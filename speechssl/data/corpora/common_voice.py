"""Common Voice: read sentences in many languages, by volunteers; source= is a release, or one language of it.

R. Ardila et al., "Common Voice: A Massively-Multilingual Speech Corpus", LREC 2020, https://arxiv.org/abs/1912.06670.
`<release>/<language>/clips/*.mp3` with `{train,dev,test}.tsv` beside `clips`; no speaker is in two splits of a
language. Releases differ: the name of the release is part of the corpus's name, as far as the folder has it.

Columns: `text` as published (with punctuation), `language`, `speaker`, `gender`, `accent` (what the speaker wrote). The
plain manifests hold all clips that were asked for. Views:

- `lid`: language identification, as many clips of every language as the rarest one has. Not a SUPERB task.
- `asr/<language>`: recognition, for each language by itself, as view `asr-<language>`.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from speechssl.data.csv_rows import csv_rows
from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.own_copy import own_copy
from speechssl.data.splits import hash64
from speechssl.errors import UserError

NAME = "common_voice"
COLUMNS = ("client_id", "path", "sentence", "gender")
RELEASE = "cv-corpus-"
GENDERS = {"male_masculine": "male", "female_feminine": "female", "do_not_wish_to_say": None, "": None}
LICENCE = (
    "CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/). Common Voice, Mozilla, R. Ardila et al., LREC 2020, "
    "https://arxiv.org/abs/1912.06670; whoever downloads it agrees not to try to identify its speakers. Changed: "
    "resampled to 16 kHz."
)
HOW = (
    "choose a release and languages at commonvoice.mozilla.org/datasets, unpack the archives into one folder, and "
    f"give that of the release ({RELEASE}...) or of one language (with train.tsv and clips)"
)

logger = logging.getLogger(__name__)


def plan(
    source: str | Path | None = None,
    *,
    languages: str | Sequence[str] | None = None,
    max_clips: int | None = None,
    release: str | None = None,
    seed: int = 0,
) -> Preparation:
    """List the clips of the official splits.

    Args:
        source: the folder of a release, of one language of it, or the one above; None = $SPEECHSSL_DATA/common_voice.
        languages: codes as the folders have them, such as [en,de]; None = all that are there.
        max_clips: most clips of a language in a split, drawn by a hash of their names; None = all.
        release: name of the release; None = by the folder cv-corpus-...
        seed: of the draws.
    """
    if max_clips is not None and max_clips < 1:
        raise UserError(f"max_clips={max_clips} leaves nothing; expected a number of clips, or null for all")
    folders = _languages(_root(source), [languages] if isinstance(languages, str) else languages)
    clips = {
        (language, split): _clips(folder, language, split, max_clips, seed)
        for language, folder in folders.items()
        for split in SPLITS
    }
    items = [item for part in clips.values() for item in part]
    if not items:
        raise UserError(f"no clips in the tables of {', '.join(map(str, folders.values()))}; unpack the archives whole")
    names = {key: [item.id for item in part] for key, part in clips.items()}
    whole = [language for language in folders if all(names[language, split] for split in SPLITS)]
    if len(whole) < len(folders):
        missing = ", ".join(sorted(folders.keys() - set(whole)))
        logger.warning("%s: without clips in train, dev or test, so in no view: %s", NAME, missing)
    views = _balanced(names, whole, seed) if len(whole) > 1 else []
    views += [_recognition(names, language) for language in whole]
    return Preparation(_name(folders, release), items, LICENCE, views)


def _root(source: str | Path | None) -> Path:
    """Return the folder of one language, or of several."""
    root = own_copy(NAME, source, ("train.tsv", "*/train.tsv", f"{RELEASE}*/*/train.tsv"), [], HOW)
    if any(root.glob("*/train.tsv")) or (root / "train.tsv").is_file():
        return root
    releases = sorted(path for path in root.glob(f"{RELEASE}*") if any(path.glob("*/train.tsv")))
    if len(releases) > 1:
        raise UserError(f"source={root} has several releases; give one: {', '.join(path.name for path in releases)}")
    return releases[0]


def _languages(root: Path, wanted: Sequence[str] | None) -> dict[str, Path]:
    """Return the folder of each language that is wanted."""
    tables = [root / "train.tsv"] if (root / "train.tsv").is_file() else sorted(root.glob("*/train.tsv"))
    there = {table.parent.resolve().name: table.parent for table in tables}
    if wanted is None:
        return there
    missing = [language for language in wanted if language not in there]
    if missing or not wanted:
        raise UserError(f"languages={list(wanted)}: not all are in {root}; it has {', '.join(there)}")
    return {language: there[language] for language in wanted}


def _clips(folder: Path, language: str, split: str, most: int | None, seed: int) -> list[Item]:
    """Return the clips of one table in its order; none where there is no table."""
    table = folder / f"{split}.tsv"
    if not table.is_file():
        return []
    items = [_item(folder, language, split, row) for row in csv_rows(table, COLUMNS, delimiter="\t", quotes=False)]
    if most is None or len(items) <= most:
        return items
    chosen = {item.id for item in sorted(items, key=lambda item: hash64(f"clips/{seed}/{item.id}"))[:most]}
    return [item for item in items if item.id in chosen]


def _item(folder: Path, language: str, split: str, row: dict[str, str]) -> Item:
    name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"  # the oldest releases leave it out
    accent = row.get("accents") or row.get("accent")
    return Item(
        f"{language}-{Path(name).stem}",
        str(folder / "clips" / name),
        split,
        speaker=row["client_id"],
        gender=GENDERS.get(row["gender"], row["gender"]),
        text=row["sentence"].strip().strip('"') or None,
        language=language,
        custom={"accent": accent} if accent else {},
    )


def _balanced(names: dict[tuple[str, str], list[str]], languages: list[str], seed: int) -> list[View]:
    """Return the view for language identification: in each split equally many clips of every language."""
    splits = {}
    for split in SPLITS:
        fewest = min(len(names[language, split]) for language in languages)
        drawn = [sorted(names[language, split], key=lambda n: hash64(f"lid/{seed}/{n}")) for language in languages]
        splits[split] = [name for part in drawn for name in part[:fewest]]
    return [View("lid", "lid", "", splits)]


def _recognition(names: dict[tuple[str, str], list[str]], language: str) -> View:
    return View(f"asr/{language}", f"asr-{language}", "", {split: names[language, split] for split in SPLITS})


def _name(folders: dict[str, Path], release: str | None) -> str:
    """Return the corpus's name with that of the release."""
    if release is None:
        above = {path.resolve().parent.name for path in folders.values()}
        release = next((name.removeprefix(RELEASE) for name in sorted(above) if name.startswith(RELEASE)), None)
    if release is None:
        logger.warning("%s: the folder does not tell the release; give options.release=...", NAME)
        return NAME
    return f"{NAME}-{release}"
