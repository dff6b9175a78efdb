"""QUESST 2014: spoken queries that occur, or do not, in spoken documents, for search by example (view qbe).

X. Anguera et al., "QUESST2014: Evaluating Query-by-Example Speech Search in a zero-resource setting with real-life
queries", ICASSP 2015: speech of six languages at 8 kHz, `Audio/`, `dev_queries/`, `eval_queries/`,
`scoring/language_key_{utterances,dev,eval}.lst` and `scoring/groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm`.

SUPERB (Yang et al., 2021, https://arxiv.org/abs/2105.01051) takes the non-native English part; so does this, unless
`language` says otherwise. The view `qbe` has the same documents in dev and test, and the column `relevant`: the
documents that hold a query. The plain manifests are for pretraining: documents are train, dev queries dev, evaluation
queries test.

Differs from s3prl, whose documentation hands the English results to the published scorer with the ground truth of the
whole set and -10 as the score of pairs that have none.
"""

import re
from collections import defaultdict
from pathlib import Path

from speechssl.data.archive import fetch_tar
from speechssl.data.coverage import coverage
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.errors import UserError, nearest

URL = "https://speech.fit.vutbr.cz/files/quesst14Database.tgz"
SHA256 = "4f869e06bc066bbe9c5dde31dbd3909a0870d70291110ebbb38878dcbc2fc5e4"  # as torchaudio has it
FOLDER = "quesst14Database"
LISTS = {"train": "utterances", "dev": "dev", "test": "eval"}  # split of the plain manifests -> name of its list
LANGUAGES = {"albanian": "sq", "basque": "eu", "czech": "cs", "nnenglish": "en", "romanian": "ro", "slovak": "sk"}
TERM = re.compile(r"LEXEME\s+(quesst14_\d+)\s.*?(quesst14_(?:dev|eval)_\d+)")  # document and query of a line
LICENCE = "See the README of the archive. QUESST 2014, X. Anguera et al., 2015. Changed: resampled to 16 kHz."


def plan(source: str | Path | None = None, *, language: str | None = "nnenglish") -> Preparation:
    """List documents and queries, and which of the documents hold which query.

    Args:
        source: the folder quesst14Database, or the one it lies in; None = $SPEECHSSL_DATA/quesst where that exists,
            else a download into the user's cache folder.
        language: albanian, basque, czech, nnenglish, romanian or slovak; null takes all six.
    """
    if language is not None and language not in LANGUAGES:
        raise UserError(
            f"QUESST 2014 has no language {language!r}; it has {', '.join(LANGUAGES)}{nearest(language, LANGUAGES)}"
        )
    folder = _find(source)
    members = {split: _items(folder, split, name, language) for split, name in LISTS.items()}
    documents = [item.id for item in members["train"]]
    relevant: dict[str, list[str]] = {}
    for split in ("dev", "test"):
        held = _relevant(folder, LISTS[split])
        relevant |= {item.id: [name for name in documents if name in held[item.id]] for item in members[split]}
    splits = {split: [item.id for item in members[split]] + documents for split in ("dev", "test")}
    items = [item for found in members.values() for item in found]
    counts = {LISTS[split]: (sum(Path(str(i.audio)).is_file() for i in m), len(m)) for split, m in members.items()}
    without = sum(not found for found in relevant.values())
    found = coverage("quesst", counts, f"{without} of {len(relevant)} queries in no document")
    return Preparation(
        "quesst", items, LICENCE, [View("qbe", "qbe", "", splits, {"relevant": relevant})], coverage=found
    )


def _find(source: str | Path | None) -> Path:
    given = local_copy("quesst") if source is None else Path(source)
    if given is None:
        given = fetch_tar(URL, cache_folder() / "quesst", SHA256)
    for folder in (given, given / FOLDER):
        if (folder / "scoring").is_dir():
            return folder
    raise UserError(
        f"source={given} is no copy of QUESST 2014; expected the folder {FOLDER} with Audio and scoring in it"
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}); unpack all of QUESST 2014") from error


def _items(folder: Path, split: str, name: str, language: str | None) -> list[Item]:
    """Return what a list names; its lines are `quesst14Database/Audio/quesst14_00001.wav nnenglish`."""
    path, items = folder / "scoring" / f"language_key_{name}.lst", []
    for number, line in enumerate(_lines(path), 1):
        audio, _, spoken = line.strip().partition(" ")
        spoken = spoken.strip()
        if line.strip() and spoken not in LANGUAGES:
            raise UserError(f"{path}, line {number}: expected a file and its language, found {line!r}")
        if spoken and language in (None, spoken):
            below = audio.partition("/")[2]  # the first folder is that of the archive
            custom = {"accent": "non-native"} if spoken == "nnenglish" else {}
            items.append(Item(Path(below).stem, str(folder / below), split, language=LANGUAGES[spoken], custom=custom))
    if not items:
        raise UserError(f"{path} names no file of the language {language}")
    return items


def _relevant(folder: Path, name: str) -> dict[str, set[str]]:
    """Return the documents that hold each query."""
    held: dict[str, set[str]] = defaultdict(set)
    for line in _lines(folder / "scoring" / f"groundtruth_quesst14_{name}" / f"quesst14_{name}.rttm"):
        if term := TERM.match(line):
            held[term[2]].add(term[1])
    return held
