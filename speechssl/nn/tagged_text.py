"""Characters with marked spans, as SUPERB writes slots: `B-city PARIS E-city`.

A symbol is a character, or a marker: `B-name` before and `E-name` after the words of a span. Markers are the symbols of
more than one character.
"""

import string
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from speechssl.nn.text import normalise

SPECIAL = ("<pad>", "<eos>", "<unk>")  # <pad> doubles as the CTC blank
CHARACTERS = (" ", *string.ascii_uppercase, "'")
BLANK, END, UNKNOWN = range(len(SPECIAL))

Span = tuple[str, str]  # name and words


class TaggedAlphabet:
    """Numbers of characters and markers.

    Args:
        names: of the spans; one of another name cannot be encoded and becomes <unk>.
    """

    def __init__(self, names: Iterable[str]):
        markers = [f"{side}-{name}" for name in sorted(names) for side in "BE"]
        self.symbols = [*SPECIAL, *CHARACTERS, *markers]
        self.index = {symbol: number for number, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, symbols: Sequence[str]) -> Tensor:
        """Return the CTC target: the numbers of the symbols, and the end symbol."""
        return torch.tensor([*(self.index.get(symbol, UNKNOWN) for symbol in symbols), END])

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Return the symbols of numbers, special ones dropped."""
        return [self.symbols[number] for number in numbers if number >= len(SPECIAL)]


def tagged(text: str, spans: Sequence[Sequence]) -> list[str]:
    """Return the symbols of a text with spans.

    Args:
        text: words separated by blanks. `&` is read as AND, punctuation goes (see `normalise`).
        spans: [name, first, end) each; their words are `text.split()[first:end]`. One left without words is dropped.
    """
    words = [normalise("and" if word == "&" else word) for word in text.split()]
    begins, ends = {}, {}
    for name, first, end in spans:
        spoken = [number for number in range(first, end) if words[number]]
        if spoken:
            begins.setdefault(spoken[0], []).append(f"B-{name}")
            ends.setdefault(spoken[-1], []).insert(0, f"E-{name}")
    symbols: list[str] = []
    for number, word in enumerate(words):
        if word:
            between = [" "] if symbols else []
            symbols += [*between, *begins.get(number, []), *word, *ends.get(number, [])]
    return symbols


def spans_of(symbols: Sequence[str]) -> list[Span]:
    """Return the spans of symbols in the order of their beginnings."""
    return [(symbols[begin][2:], plain(symbols[begin:end])) for begin, end in span_places(symbols)]


def span_places(symbols: Sequence[str]) -> list[tuple[int, int]]:
    """Return where spans begin and end, the places of their markers.

    A span reaches from a `B-name` to the next `E-name`; what is marked within it is not read again, and markers without
    partner, as well as spans without words, are passed over.
    """
    found, place = [], 0
    while place < len(symbols):
        end = _end(symbols, place)
        if end is not None:
            found.append((place, end))
        place = place + 1 if end is None else end + 1
    return found


def _end(symbols: Sequence[str], begin: int) -> int | None:
    """Return where the span that begins here ends, or None where there is none with words."""
    if len(symbols[begin]) < 2 or not symbols[begin].startswith("B-"):
        return None
    closing = f"E-{symbols[begin][2:]}"
    ends = (n for n in range(begin + 1, len(symbols)) if symbols[n] == closing and plain(symbols[begin:n]))
    return next(ends, None)


def plain(symbols: Iterable[str]) -> str:
    """Return the words without markers."""
    return " ".join("".join(symbol if len(symbol) == 1 else "" for symbol in symbols).split())


def written(symbols: Iterable[str]) -> str:
    """Return the words with their markers, for people."""
    return " ".join("".join(symbol if len(symbol) == 1 else f" {symbol} " for symbol in symbols).split())
