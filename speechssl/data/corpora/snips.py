"""Audio SNIPS: orders to a voice assistant with their slots, spoken by sixteen synthetic voices; source= is your copy.

The orders are those of A. Coucke et al., 2018, https://arxiv.org/abs/1805.10190, the audio was made with Amazon Polly
by https://github.com/aws-samples/aws-lex-noisy-spoken-language-understanding. Two layouts are read:

- s3prl's, for the published protocol: `{train,valid,test}/<Voice>-snips-<split>-<n>.wav` (or .mp3) and
  `all.iob.snips.txt`, in which numbers are spelt out.
- the original: `audio_slu/audio_<Voice>/snips/snips-<split>-<n>.mp3` and `data/nlu_annotation/{train,valid,test}`, with
  digits in the texts, which a recogniser of letters cannot write: results do not compare with published ones.

Columns: `text` (spoken words, upper-case: punctuation is dropped, & becomes AND), `slots` (spans of its words),
`intent`, `speaker` (the voice), `gender`, `accent`. The plain manifests and the view `sf` are the splits of SUPERB's
slot filling (Yang et al., 2021, https://arxiv.org/abs/2105.01051): eight voices say the train orders, four others those
of valid, four others those of test. mp3 files are taken with what their encoder added before and after the speech.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.items import Item, Preparation, View
from speechssl.data.own_copy import own_copy
from speechssl.data.word_spans import clean, spans_of_tags
from speechssl.errors import UserError

NAME = "snips"
ORIGINAL = "aws-lex-noisy-spoken-language-understanding"
SPLITS = {"train": "train", "valid": "dev", "test": "test"}
VOICES = {  # gender and accent by Amazon's list of voices
    "train": {
        **dict.fromkeys(("Ivy", "Joanna", "Kendra", "Kimberly", "Salli"), ("female", "US")),
        **dict.fromkeys(("Joey", "Justin", "Matthew"), ("male", "US")),
    },
    "dev": {
        "Aditi": ("female", "Indian"),
        "Amy": ("female", "British"),
        "Geraint": ("male", "Welsh"),
        "Nicole": ("female", "Australian"),
    },
    "test": {
        "Brian": ("male", "British"),
        "Emma": ("female", "British"),
        "Raveena": ("female", "Indian"),
        "Russell": ("male", "Australian"),
    },
}
PUBLISHED = {"train": 8 * 13084, "dev": 4 * 700, "test": 4 * 700}  # voices x orders
TEXTS = "all.iob.snips.txt"
RECORDINGS = ("train/**/*", "valid/**/*", "test/**/*", "audio_slu/audio_*/snips/*")
ANNOTATIONS = ("data/nlu_annotation", "nlu_annotation", f"{ORIGINAL}/data/nlu_annotation")
COLUMNS = ("u_id", "utterance", "slot-labels", "intent")
ORDER = re.compile(r"(?:([A-Z][a-z]+)-)?(snips-(train|valid|test)-\d+)")
LICENCE = (
    "See the licence in the archive, that of the texts in github.com/sonos/nlu-benchmark (A. Coucke et al., 2018, "
    f"https://arxiv.org/abs/1805.10190) and that of the audio in github.com/aws-samples/{ORIGINAL}. Changed: stored as "
    "one-channel 16 kHz PCM."
)
HOW = (
    f"s3prl's with {TEXTS} from huggingface.co/datasets/s3prl/SNIPS (snips.zip, 19 GB), or the original, linked in "
    f"github.com/aws-samples/{ORIGINAL}, with audio_slu beside its folder data"
)


class Order(NamedTuple):
    """What is said, and what it means."""

    text: str
    slots: list[list]
    intent: str


def plan(source: str | Path | None = None) -> Preparation:
    """List the recordings of each split's voices, with slots and intent.

    Args:
        source: the folder of either layout, or the one above it; None = $SPEECHSSL_DATA/snips.
    """
    folder = own_copy(NAME, source, (TEXTS, "audio_slu"), ["SNIPS"], HOW)
    orders = _spelt_out(folder / TEXTS) if (folder / TEXTS).is_file() else _original(folder)
    items, without_text = [], 0
    for voice, name, split, path in sorted(_recordings(folder)):
        if name in orders:
            items.append(_item(voice, name, split, path, orders[name]))
        without_text += name not in orders
    if not items:
        raise UserError(f"no recording of a voice of its split below {folder}; expected a copy of {NAME}: {HOW}")
    counts = Counter(item.split for item in items)
    detail = f"recordings without a text: {without_text}" if without_text else ""
    found = coverage(NAME, {split: (counts[split], number) for split, number in PUBLISHED.items()}, detail)
    view = View("sf", "sf", "", {split: [item.id for item in items if item.split == split] for split in PUBLISHED})
    return Preparation(NAME, items, LICENCE, [view], coverage=found)


def _recordings(folder: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield voice, name of the order, split and path of what the voices of that split say."""
    for pattern in RECORDINGS:
        for path in folder.glob(pattern):
            match = ORDER.fullmatch(path.stem) if path.suffix in (".wav", ".mp3") else None
            if match is None:
                continue
            voice, split = match[1] or path.parts[-3].removeprefix("audio_"), SPLITS[match[3]]
            if voice in VOICES[split]:
                yield voice, match[2], split, str(path)


def _item(voice: str, name: str, split: str, path: str, order: Order) -> Item:
    gender, accent = VOICES[split][voice]
    return Item(
        f"{voice}-{name}",
        path,
        split,
        speaker=voice,
        gender=gender,
        text=order.text or None,
        language="en",
        custom={"slots": order.slots, "intent": order.intent, "accent": accent},
    )


def _spelt_out(path: Path) -> dict[str, Order]:
    """Read lines `<Voice>-<order> BOS <words> EOS`, tab, `O <tags> <intent>`; the voices say the same."""
    orders: dict[str, Order] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        said, _, tags = line.partition("\t")
        name, *words = said.split(" ")
        match = ORDER.fullmatch(name)
        if match is None:
            raise UserError(f"{path}, line {number}: expected such as Ivy-snips-train-0 BOS ..., found {line[:60]!r}")
        if match[2] not in orders:
            *tags, intent = tags.strip().split(" ")
            orders[match[2]] = _order(words[1:-1], tags[1:], intent, f"{path}, line {number}")
    return orders


def _original(folder: Path) -> dict[str, Order]:
    """Read the tables that came beside the original audio."""
    found = [folder / place for place in ANNOTATIONS if (folder / place).is_dir()]
    if not found:
        raise UserError(f"{folder} has neither {TEXTS} nor a folder {ANNOTATIONS[0]}; texts and slots are in it: {HOW}")
    orders = {}
    for split in SPLITS:
        for row in csv_rows(found[0] / split, COLUMNS, delimiter="\t", quotes=False):
            tags = [tag.rpartition("/")[2] for tag in row["slot-labels"].split(" ")]  # GetWeather/city
            place = f"{found[0] / split}, {row['u_id']}"
            orders[row["u_id"]] = _order(row["utterance"].split(" "), tags, row["intent"], place)
    return orders


def _order(words: list[str], tags: list[str], intent: str, place: str) -> Order:
    if len(words) != len(tags):
        raise UserError(f"{place}: expected a tag per word, found {len(tags)} for {len(words)}; use the published file")
    return Order(*clean(words, spans_of_tags(tags)), intent)
