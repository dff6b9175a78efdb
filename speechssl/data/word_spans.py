"""Spans of words (slots, named entities) of texts that still have to be cleaned of what is not spoken.

Annotations count tokens or characters of a text with punctuation; a task counts spoken words. A span is
[name, first, end): the words `text.split()[first:end]` are its value.
"""

import re
from collections.abc import Sequence
from itertools import groupby, pairwise

from speechssl.errors import UserError
from speechssl.nn.text import normalise

Span = list  # [name, first, end)
OUTSIDE = "O"  # tag of a token that is in no span


def spoken_words(token: str) -> list[str]:
    """Return upper-case words without accents: none of a punctuation mark, two of "hip-hop", AND of an ampersand."""
    return normalise(token.replace("&", " and ")).split()


def clean(tokens: Sequence[str], spans: Sequence[Span]) -> tuple[str, list[Span]]:
    """Return the spoken text of tokens, and spans of tokens as spans of its words; spans without words go."""
    words: list[str] = []
    starts = [0]
    for token in tokens:
        words += spoken_words(token)
        starts.append(len(words))
    moved = [[name, starts[first], starts[end]] for name, first, end in spans]
    return " ".join(words), [span for span in moved if span[1] < span[2]]


def spans_of_tags(tags: Sequence[str]) -> list[Span]:
    """Return the runs of one name in a tag per token: neighbours of one name are one span, as SUPERB has it."""
    spans, first = [], 0
    for name, run in groupby(tags):
        end = first + len(list(run))
        if name != OUTSIDE:
            spans.append([name, first, end])
        first = end
    return spans


def spans_of_characters(text: str, entities: Sequence[Span]) -> tuple[list[str], list[Span]]:
    """Return the tokens of a text, and spans of characters ([name, first, end)) as spans of tokens.

    Blanks separate tokens. So does a boundary of a span inside a word: "europe" of "europe's" is a token of its own.
    Of spans that overlap, the first is kept.

    Raises:
        UserError: a span that is not inside the text.
    """
    cuts = {place for _, first, end in entities for place in (first, end)}
    bounds = []  # of the tokens, in characters
    for match in re.finditer(r"\S+", text):
        inner = sorted(cut for cut in cuts if match.start() < cut < match.end())
        bounds += pairwise([match.start(), *inner, match.end()])
    spans: list[Span] = []
    for name, first, end in sorted(entities, key=lambda entity: entity[1]):
        inside = [number for number, (start, stop) in enumerate(bounds) if first < stop and start < end]
        if not inside or not 0 <= first < end <= len(text):
            raise UserError(f"characters {first} to {end} ({name}) are not in the text {text[:60]!r}")
        if not spans or spans[-1][2] <= inside[0]:
            spans.append([name, inside[0], inside[-1] + 1])
    return [text[start:stop] for start, stop in bounds], spans
