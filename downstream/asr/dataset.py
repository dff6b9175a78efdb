"""Text as SUPERB's recogniser sees it: upper-case characters and `|` between words, 32 symbols in English."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from speechssl.nn.ctc_decode import greedy
from speechssl.nn.text import normalise, upper_words

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # <s> doubles as the CTC blank
BLANK, _, END, UNKNOWN = range(len(SPECIAL))
SEPARATOR = len(SPECIAL)  # number of `|`
ENGLISH = "ETAONIHSRDLUMWCFGYPBVK'XJQZ"  # by frequency, as published models have them
ALPHABETS = ("english", "corpus")


class Alphabet:
    """Numbers of symbols, and which text they write.

    Args:
        letters: all that a word is made of.
        spell: returns text as the alphabet writes it, `normalise` or `upper_words`.
    """

    def __init__(self, letters: Iterable[str] = ENGLISH, spell: Callable[[str], str] = normalise):
        self.symbols = (*SPECIAL, "|", *letters)
        self.index = {symbol: number for number, symbol in enumerate(self.symbols)}
        self.spell = spell

    def __len__(self) -> int:
        return len(self.symbols)

    def references(self, texts: Iterable[object]) -> list[str | None]:
        """Return entries of a manifest as the alphabet writes them, None where there is no text."""
        return [None if text is None else self.spell(str(text)) for text in texts]

    def encode(self, text: str) -> Tensor:
        """Return the CTC target of a reference: its symbols, a trailing `|` and `</s>`."""
        symbols = [*text.replace(" ", "|"), "|"]
        return torch.tensor([*(self.index.get(symbol, UNKNOWN) for symbol in symbols), END])

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text of symbol numbers without repeats and blanks; special symbols are dropped."""
        text = "".join(self.symbols[number] for number in numbers if number >= len(SPECIAL))
        return " ".join(text.replace("|", " ").split())

    def transcribe(self, outputs: Tensor, lengths: Tensor) -> list[str]:
        """Return the text of scores (B, T, V) with (B,) valid frames, decoded greedily."""
        return [self.decode(numbers) for numbers in greedy(outputs, lengths, BLANK)]


def letters_of(texts: Sequence[object]) -> list[str]:
    """Return all characters of words of these texts, in the order of Unicode; accents and vowel signs stay."""
    letters = {character for text in texts if text is not None for character in upper_words(str(text))}
    return sorted(letters - {" "})
