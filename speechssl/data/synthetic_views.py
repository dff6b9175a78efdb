"""What the makers of the synthetic corpus's task views start from, and what they return."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speechssl.data.items import Item, View
from speechssl.data.spoken_text import Sentence
from speechssl.data.synthetic_voices import ENGLISH, Speaker

Splits = dict[str, list[Item]]


@dataclass
class Basic:
    """The plain corpus, as far as tasks use it."""

    speakers: list[Speaker]
    keywords: Splits
    english: Splits
    foreign: dict[str, Splits]  # by language
    meaning: dict[str, Sentence]  # of each English text, in upper case
    seed: int

    def of(self, split: str) -> list[Speaker]:
        """Return the speakers of a split."""
        return [speaker for speaker in self.speakers if speaker.split == split]


@dataclass
class Task:
    """A view to be: its utterances, those of them that are new, and columns it has of its own."""

    name: str
    splits: Splits
    new: list[Item] = field(default_factory=list)
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)
    fold: str = ""

    def view(self, accents: dict[str, str]) -> View:
        """Return the view, with the accent of those who speak English as a further column."""
        english = [i for i in joined(self.splits) if i.speaker is not None and i.language == ENGLISH]
        columns = self.columns | ({"accent": {i.id: accents[i.speaker] for i in english}} if english else {})
        ids = {split: [item.id for item in items] for split, items in self.splits.items()}
        return View(f"{self.name}/{self.fold}" if self.fold else self.name, self.name, self.fold, ids, columns)


def joined(splits: Splits) -> list[Item]:
    """Return the items of all splits."""
    return [item for items in splits.values() for item in items]


def column(read: Callable[[Item], Any], splits: Splits) -> dict[str, Any]:
    """Return {item id: label}, for `Task.columns`."""
    return {item.id: read(item) for item in joined(splits)}
