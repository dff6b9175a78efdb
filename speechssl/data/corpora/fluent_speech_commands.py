"""Fluent Speech Commands: orders to a smart home, each with action, object and location; source= is your own copy.

L. Lugosch et al., "Speech Model Pre-training for End-to-End Spoken Language Understanding", Interspeech 2019,
https://arxiv.org/abs/1904.03670. 16 kHz, `wavs/speakers/<speaker>/<recording>.wav`, the official splits in
`data/{train,valid,test}_data.csv`, and what the speakers said of themselves in `data/speaker_demographics.csv`.

Columns: `intent` = {"action", "object", "location"}, `speaker`, `gender`, `text` as published, and `accent`, which
holds the speaker's first language. View `ic`: SUPERB's intent classification, which takes the official splits as the
plain manifests do.
"""

from pathlib import Path

from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.items import Item, Preparation, View
from speechssl.data.own_copy import own_copy
from speechssl.errors import UserError

NAME = "fluent_speech_commands"
LISTS = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}
COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")
SLOTS = ("action", "object", "location")
SPEAKERS = "speaker_demographics.csv"
FIRST_LANGUAGE = "First Language spoken"
PUBLISHED = {"train": 23132, "dev": 3118, "test": 3793}  # as the dataset card of SUPERB lists them
LICENCE = (
    "Fluent Speech Commands Public License (the PDF in the archive), Fluent.ai. L. Lugosch et al., Interspeech 2019, "
    "https://arxiv.org/abs/1904.03670. Changed: stored as one-channel 16 kHz PCM."
)
HOW = (
    "it is asked for at fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research, and "
    "unpacks to fluent_speech_commands_dataset with data/train_data.csv in it"
)


def plan(source: str | Path | None = None) -> Preparation:
    """List the orders of the official splits with their intents and speakers.

    Args:
        source: the folder with `data` and `wavs`, or the one above it; None = $SPEECHSSL_DATA/fluent_speech_commands.
    """
    folder = own_copy(NAME, source, [f"data/{LISTS['train']}"], ["fluent_speech_commands_dataset"], HOW)
    speakers = _speakers(folder / "data" / SPEAKERS)
    items = [
        _item(folder, row, split, speakers)
        for split, name in LISTS.items()
        for row in csv_rows(folder / "data" / name, COLUMNS)
    ]
    there = {split: [item for item in items if item.split == split and Path(item.audio).is_file()] for split in LISTS}
    if not any(there.values()):
        raise UserError(f"none of the {len(items)} recordings of the lists is in {folder / 'wavs'}; unpack it whole")
    trained = {item.text for item in there["train"]}
    known = sum(item.text in trained for item in there["test"])
    counts = {split: (len(there[split]), count) for split, count in PUBLISHED.items()}
    found = coverage(NAME, counts, f"{known} of test say a sentence that is also in train")
    view = View("ic", "ic", "", {split: [item.id for item in items if item.split == split] for split in LISTS})
    return Preparation(NAME, items, LICENCE, [view], coverage=found)


def _speakers(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """Return gender and first language of the speakers; nothing where the archive came without the table."""
    if not path.is_file():
        return {}
    rows = csv_rows(path, ("speakerId", FIRST_LANGUAGE, "gender"))
    return {row["speakerId"]: (row["gender"] or None, row[FIRST_LANGUAGE] or None) for row in rows}


def _item(folder: Path, row: dict[str, str], split: str, speakers: dict[str, tuple[str | None, str | None]]) -> Item:
    gender, first_language = speakers.get(row["speakerId"], (None, None))
    custom = {"intent": {slot: row[slot] for slot in SLOTS}}
    if first_language is not None:
        custom["accent"] = first_language
    path = Path(row["path"])
    return Item(
        "-".join(path.with_suffix("").parts[-2:]),  # speaker and recording
        str(folder / path),
        split,
        speaker=row["speakerId"],
        gender=gender,
        text=row["transcription"],
        language="en",
        custom=custom,
    )
