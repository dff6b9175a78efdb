"""What recognition tasks with marked spans share: slots (SUPERB) and named entities (SLUE)."""

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from speechssl.errors import UserError
from speechssl.nn.ctc_decode import greedy
from speechssl.nn.ctc_task import RecurrentCtcTask
from speechssl.nn.ctc_times import Spoken, confidence, segment
from speechssl.nn.tagged_text import BLANK, SPECIAL, UNKNOWN, TaggedAlphabet, plain, span_places, tagged, written

TEXT = "text"  # column whose words the spans count
WHOLE = 20  # most frequent whole answers, and most frequent parts, that a constant answer is chosen from


class TaggedTextTask(RecurrentCtcTask):
    """Text with spans; arguments that are not explained here are those of `RecurrentCtcTask`.

    References are lists of symbols (see `speechssl.nn.tagged_text`). The names of spans are those of the train split.

    Args:
        corpus: with `name` and `table(split)` (a `speechssl.data.cuts.Corpus`), and text in the column `text`.
        unseen: what is done about names of spans in dev or test that train lacks: "refuse", or "count" as errors.
        settings: see `RecurrentCtcTask`; `label` is the column with lists of [name, first, end) per utterance, where
            the words of a span are `text.split()[first:end]`.
    """

    unknown, num_special = UNKNOWN, len(SPECIAL)

    def __init__(self, corpus: Any, *, unseen: str, **settings: Any):
        super().__init__(corpus, **settings)
        if unseen not in ("refuse", "count"):
            raise UserError(f"task.unseen expects refuse or count, found {unseen!r}")
        self.unseen = unseen
        self.names = self.from_train("names", lambda: sorted(self.found_names("train")))
        if not self.names:
            raise UserError(
                f"{self.kind} found no spans in the column {self.label!r} of train of {corpus.name} (language "
                f"{self.language}); choose with label=COLUMN and task.language="
            )
        self.alphabet = TaggedAlphabet(self.names)
        self.symbols = self.alphabet.symbols

    def found_names(self, split: str) -> set[str]:
        """Return the names of all spans of a split."""
        table = self.corpus.table(split)
        rows = zip(table.column(TEXT), table.column(self.label), self.is_spoken(table), strict=True)
        spans = [self._checked(text, found) for text, found, spoken in rows if found is not None and spoken]
        return {name for own in spans for name, _, _ in own}

    def _checked(self, text: Any, spans: Any) -> list[list]:
        """Return the spans of an utterance; raises UserError where they are none, lie outside the text or overlap."""
        words = len(str(text or "").split())
        if not isinstance(spans, list) or not all(_is_span(span, words) for span in spans):
            raise UserError(
                f"{self.kind} expects lists of [name, first word, end) within the {TEXT!r} in the column "
                f"{self.label!r} of {self.corpus.name}, found {spans!r} for {text!r}"
            )
        ordered = sorted(spans, key=lambda span: span[1])
        if any(before[2] > after[1] for before, after in pairwise(ordered)):
            raise UserError(f"{self.kind} expects spans that do not overlap, found {spans!r} in {self.corpus.name}")
        return spans

    def references(self, table: Any) -> list[list[str] | None]:
        """Return the symbols of every utterance of a table."""
        both = zip(table.column(TEXT), table.column(self.label), strict=True)
        return [None if spans is None else tagged(str(text or ""), self._checked(text, spans)) for text, spans in both]

    def encode(self, reference: list[str]) -> Tensor:
        return self.alphabet.encode(reference)

    def transcribe(self, outputs: Tensor, lengths: Tensor) -> list[list[str]]:
        """Return the symbols of scores (B, T, V) with (B,) valid frames, decoded greedily."""
        return [self.alphabet.decode(numbers) for numbers in greedy(outputs, lengths, BLANK)]

    def answer(self, spoken: list[Spoken]) -> dict[str, Any]:
        """Return "text", the same "tagged" with its spans, the "score" of its letters, and the spans as "segments".

        A segment's "label" is the name of a span, its "text" the words, its times those of their letters.
        """
        symbols = self.alphabet.decode(one.number for one in spoken)
        letters = [len(symbol) == 1 and symbol != " " for symbol in symbols]
        segments = []
        for begin, end in span_places(symbols):
            inside = [spoken[place] for place in range(begin, end) if letters[place]]
            segments.append(segment(symbols[begin][2:], inside, text=plain(symbols[begin:end])))
        score = confidence([one for one, letter in zip(spoken, letters, strict=True) if letter])
        return {"text": plain(symbols), "tagged": written(symbols), "score": score, "segments": segments}

    def check(self) -> None:
        """Raise UserError also for names of spans that train lacks."""
        for split in self.splits:
            names = sorted(self.found_names(split) - set(self.names))
            if names and self.unseen == "refuse":
                raise UserError(
                    f"{self.kind} can only find names of train, but {split} of {self.corpus.name} has {len(names)} "
                    f"more ({', '.join(names[:3])}); leave them out, or count them as errors with task.unseen=count"
                )
        super().check()

    def answers(self, split: str) -> list[tuple[Hashable, ...]]:
        """Return the parts of the right answer to every utterance of a split."""
        raise NotImplementedError(f"{type(self).__name__} has to implement answers(split)")

    def score(self, answers: Sequence[tuple[Hashable, ...]], constant: tuple[Hashable, ...]) -> float:
        """Return the main metric of one answer to all utterances."""
        raise NotImplementedError(f"{type(self).__name__} has to implement score(answers, constant)")

    def chance(self) -> float | None:
        """Return the main metric on test of one answer to all utterances.

        That is the best one on train of its most frequent answers and of the combinations of its most frequent parts.
        """
        train = self.answers("train")
        parts = [part for part, _ in Counter(part for answer in train for part in answer).most_common(WHOLE)]
        whole = [answer for answer, _ in Counter(train).most_common(WHOLE)]
        candidates = [tuple(parts[:count]) for count in range(len(parts) + 1)] + whole
        return self.score(self.answers("test"), max(candidates, key=lambda answer: self.score(train, answer)))


def _is_span(span: Any, words: int) -> bool:
    if not isinstance(span, list | tuple) or len(span) != 3 or not all(type(place) is int for place in span[1:]):
        return False
    name, first, end = span
    return isinstance(name, str) and bool(name.strip()) and 0 <= first < end <= words
