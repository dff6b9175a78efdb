"""SLUE: sentiment of celebrities' interviews and named entities of speeches in parliament; downloaded if need be.

S. Shon et al., "SLUE: New Benchmark Tasks for Spoken Language Understanding Evaluation on Natural Speech", ICASSP 2022,
https://arxiv.org/abs/2111.10367: two corpora, `slue-voxceleb` and `slue-voxpopuli`, either of which will do, each with
tables `<corpus>_{fine-tune,dev,test}.tsv` and a folder of audio per split. The archives that can be downloaded are
those without labels of the test sets (`..._test_blind.tsv`): where the labels are missing, the views below test on dev
and select on one in ten speakers of fine-tune, and say so in their names, `sentiment-tested-on-dev` and
`ner-tested-on-dev` (in the same folders). Such results compare with published ones on dev only.

Columns: `sentiment` (negative, neutral, positive; utterances without agreement have none), `entities` (spans of the
words of `text`), `text` (spoken words, upper-case), `speaker`. The plain manifests hold both corpora in their own
splits. Views:

- `sentiment`: of VoxCeleb.
- `ner`: of VoxPopuli, with the paper's seven kinds of entities.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

from speechssl.data.archive import fetch_tar
from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.data.splits import hash64
from speechssl.data.word_spans import clean, spans_of_characters
from speechssl.errors import UserError

URL = "https://papers-slue.awsdev.asapp.com"
SPLITS = {"train": "fine-tune", "dev": "dev", "test": "test"}
PUBLISHED = {  # as the project's page lists them; VoxCeleb in version 0.2
    "voxceleb": {"train": 5777, "dev": 1454, "test": 3553},
    "voxpopuli": {"train": 5000, "dev": 1753, "test": 1842},
}
TASKS = {"voxceleb": ("sentiment", "sentiment"), "voxpopuli": ("ner", "entities")}  # view and column
COLUMNS = {"voxceleb": ("id", "start_second", "end_second"), "voxpopuli": ("id",)}
SENTIMENTS = ("negative", "neutral", "positive")
KINDS = {  # the paper's combination of OntoNotes's kinds; others are left out
    **dict.fromkeys(("GPE", "LOC"), "PLACE"),
    **dict.fromkeys(("CARDINAL", "MONEY", "ORDINAL", "PERCENT", "QUANTITY"), "QUANT"),
    **dict.fromkeys(("DATE", "TIME"), "WHEN"),
    **{name: name for name in ("LAW", "NORP", "ORG", "PERSON")},
}
DEV_SHARE = 0.1  # of fine-tune's speakers, where dev has to stand in for test
ON_DEV = "-tested-on-dev"
LICENCE = (
    "SLUE-VoxPopuli: CC0; SLUE-VoxCeleb: CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), see the licences in "
    "the archives. S. Shon et al., ICASSP 2022, https://arxiv.org/abs/2111.10367. Changed: stored as one-channel 16 "
    "kHz PCM."
)

logger = logging.getLogger(__name__)


def plan(source: str | Path | None = None) -> Preparation:
    """List the utterances of both corpora, or of the one that is there.

    Args:
        source: the folder with `slue-voxceleb` and `slue-voxpopuli`, or one of these; None = $SPEECHSSL_DATA/slue where
            that exists, else a download of both into the user's cache folder.
    """
    items, views, counts = [], [], {}
    for corpus, folder in _find(source).items():
        listed = {split: list(_utterances(folder, corpus, split)) for split in SPLITS}
        views += _views(corpus, listed)
        items += [item for part in listed.values() for item in part]
        for split, number in PUBLISHED[corpus].items():
            there = sum(Path(item.audio).is_file() for item in listed[split])
            counts[f"{corpus} {split}"] = there, number
    return Preparation("slue", items, LICENCE, views, coverage=coverage("slue", counts))


def _find(source: str | Path | None) -> dict[str, Path]:
    """Return the folder of each corpus."""
    source = local_copy("slue") if source is None else Path(source)
    if source is None:
        fetched = {corpus: cache_folder() / f"slue-{corpus}_blind" for corpus in PUBLISHED}
        for corpus, folder in fetched.items():
            fetch_tar(f"{URL}/slue-{corpus}_blind.tar.gz", folder)
        return {corpus: _holder(corpus, folder) or folder for corpus, folder in fetched.items()}
    found = {corpus: folder for corpus in PUBLISHED if (folder := _holder(corpus, source)) is not None}
    if not found:
        raise UserError(
            f"source={source} holds no part of SLUE; expected slue-voxceleb/{_table('voxceleb', 'train')} or "
            f"slue-voxpopuli/{_table('voxpopuli', 'train')}, from asappresearch.github.io/slue-toolkit"
        )
    return found


def _holder(corpus: str, folder: Path) -> Path | None:
    places = (folder, folder / f"slue-{corpus}")
    return next((place for place in places if (place / _table(corpus, "train")).is_file()), None)


def _table(corpus: str, split: str, end: str = "") -> str:
    return f"slue-{corpus}_{SPLITS[split]}{end}.tsv"


def _utterances(folder: Path, corpus: str, split: str) -> Iterator[Item]:
    """Yield the utterances of a split; of the test set, from the table with labels if there is one."""
    table = folder / _table(corpus, split)
    if not table.is_file() and split == "test":
        table = folder / _table(corpus, split, "_blind")
    make = _interview if corpus == "voxceleb" else _speech
    for row in csv_rows(table, COLUMNS[corpus], delimiter="\t"):
        item = make(folder, row, split)
        speaker = row.get("speaker_id") or ""
        item.speaker = f"{corpus}-{speaker}" if speaker not in ("", "None") else None
        yield item


def _interview(folder: Path, row: dict[str, str], split: str) -> Item:
    """Return an utterance of VoxCeleb: a part of a recording, unless it was cut already by the project's script."""
    whole, cut = (folder / f"{SPLITS[split]}{end}" / f"{row['id']}.flac" for end in ("_raw", ""))
    item = Item(f"voxceleb-{row['id']}", str(cut), split, language="en")
    if whole.is_file() or not cut.is_file():
        item.audio, item.start = str(whole), _seconds(folder, row, "start_second")
        item.duration = _seconds(folder, row, "end_second") - item.start
    item.text = clean((row.get("normalized_text") or "").split(), [])[0] or None
    sentiment = (row.get("sentiment") or "").lower()
    if sentiment in SENTIMENTS:
        item.custom["sentiment"] = sentiment
    return item


def _seconds(folder: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError as error:
        raise UserError(f"{folder}: {column} of {row['id']} is {row[column]!r}; expected seconds") from error


def _speech(folder: Path, row: dict[str, str], split: str) -> Item:
    """Return an utterance of VoxPopuli with its entities."""
    item = Item(f"voxpopuli-{row['id']}", str(folder / SPLITS[split] / f"{row['id']}.ogg"), split, language="en")
    entities = _entities(folder, row)
    tokens, spans = spans_of_characters(row.get("normalized_text") or "", entities or [])
    text, spans = clean(tokens, spans)
    item.text = text or None
    if entities is not None and text:
        item.custom["entities"] = spans
    return item


def _entities(folder: Path, row: dict[str, str]) -> list[list] | None:
    """Return [kind, first character, end]; None where the table has no labels."""
    if "normalized_ner" not in row:
        return None
    text = row["normalized_ner"] or ""
    try:
        found = json.loads(text.replace("'", '"')) if text not in ("", "None") else []
        return [[KINDS[name], first, first + length] for name, first, length in found if name in KINDS]
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder}: expected such as [['LAW', 86, 18]] for {row['id']}, found {text!r}") from error


def _views(corpus: str, listed: dict[str, list[Item]]) -> list[View]:
    """Return the view of the corpus's task, over the utterances that have a label."""
    name, column = TASKS[corpus]
    labelled = {split: [item for item in items if column in item.custom] for split, items in listed.items()}
    view = name
    if not labelled["test"]:
        view = name + ON_DEV
        logger.warning("slue: %s has no labels of its test set; %s tests on dev, as view %s", corpus, name, view)
        held_out = [item for item in labelled["train"] if _is_held_out(item)]
        rest = [item for item in labelled["train"] if not _is_held_out(item)]
        labelled = {"train": rest, "dev": held_out, "test": labelled["dev"]}
    splits = {split: [item.id for item in items] for split, items in labelled.items()}
    return [View(name, view, "", splits)] if all(splits.values()) else []


def _is_held_out(item: Item) -> bool:
    return hash64(f"slue/{item.speaker or item.id}") / 2**64 < DEV_SHARE
