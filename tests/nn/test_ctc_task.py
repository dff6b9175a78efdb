"""What CTC tasks share, on a task that recognises words of three letters."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from speechssl.errors import UserError
from speechssl.nn.ctc_task import CtcTask, RecurrentCtcTask

SETTINGS = {
    "label": "text",
    "language": None,
    "frame_ms": None,
    "steps": 1,
    "batch_size": 1,
    "eval_every": 1,
    "lrs": [1],
    "clip_norm": 0.0,
}
RECURRENT = {
    "projection_size": 5,
    "lstm_size": 4,
    "num_layers": 1,
    "dropout": 0.1,
    "normalise": True,
    "spec_augment": True,
    "mask_channels": 2,
    "mask_frames": 3,
}
SYMBOLS = "_?ABC"


class Table:
    def __init__(self, texts: list, languages: list | None = None):
        self.texts, self.languages = texts, languages or [None] * len(texts)

    def column(self, name: str) -> list:
        return {"text": self.texts, "language": self.languages}[name]

    def select(self, indices: list[int]) -> "Table":
        return Table([self.texts[i] for i in indices], [self.languages[i] for i in indices])


class Letters:
    kind, unknown, symbols = "letter recognition", 1, SYMBOLS

    def references(self, table: Any) -> list:
        return table.column("text")

    def encode(self, reference: str) -> torch.Tensor:
        return torch.tensor([max(1, SYMBOLS.find(letter)) for letter in reference])


class Plain(Letters, CtcTask):
    pass


class Recurrent(Letters, RecurrentCtcTask):
    pass


def task(texts: list, languages: list | None = None, **settings: Any) -> Plain:
    corpus = SimpleNamespace(name="made-up", table=lambda split: Table(texts, languages))
    return Plain(corpus, **(SETTINGS | settings))


def test_which_utterances_are_taken() -> None:
    texts = ["AB", None, "", "CC"]
    examples = task(texts).dataset("train")
    assert examples.labels["reference"] == examples.cuts.texts == ["AB", "CC"]
    assert [row.tolist() for row in examples.labels["tokens"]] == [[2, 3], [4, 4]]
    assert task(texts).dataset("dev").labels["reference"] == ["AB", "", "CC"]
    assert task(texts, ["en", "en", "en", "de"], language="EN").dataset("train").labels["reference"] == ["AB"]


@pytest.mark.parametrize(
    ("frame_ms", "rate", "stack"), [(None, 160, 1), (30.0, 160, 3), (30.0, 320, 1), (40.0, 320, 2)]
)
def test_how_many_frames_are_joined(frame_ms: float | None, rate: int, stack: int) -> None:
    assert task(["A"], frame_ms=frame_ms).stack(rate) == stack


def test_checks() -> None:
    task(["ABCX"]).check()
    with pytest.raises(UserError, match="letter recognition found no utterance in train of made-up"):
        task([None]).check()
    with pytest.raises(UserError, match="letter recognition knows 1 of the 4 symbols in the column 'text'"):
        task(["AXYZ"]).check()
    assert task(["A"]).chance() == 100.0


def test_heads_of_two_layers() -> None:
    corpus = SimpleNamespace(name="made-up", table=lambda split: Table(["AB"]))
    head = Recurrent(corpus, **RECURRENT, **SETTINGS | {"frame_ms": 20.0}).head(8, 160)
    assert (head.stack, head.normalise, head.classifier.out_features) == (2, True, 5)
    assert (head.augment.max_channels, head.augment.max_frames) == (2, 3)
    assert Recurrent(corpus, **RECURRENT | {"spec_augment": False}, **SETTINGS).head(8, 160).augment is None
