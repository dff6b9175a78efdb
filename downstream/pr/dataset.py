"""SUPERB's 74 phone symbols, and words as phones through pronunciation lexicons."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.nn.ctc_decode import greedy
from speechssl.nn.text import normalise

LABEL = "phones"
SPECIAL = ("<pad>", "<eos>", "<unk>")  # <pad> doubles as the CTC blank
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
# fmt: off
CONSONANTS = (
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y",
    "Z", "ZH",
)
# fmt: on
PHONES = ("SIL", "SPN", *sorted([*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012")]))
KNOWN = frozenset(PHONES)
SYMBOLS = (*SPECIAL, *PHONES)
INDEX = {symbol: number for number, symbol in enumerate(SYMBOLS)}
BLANK, END, UNKNOWN = range(len(SPECIAL))
MISSING = "<unk>"  # what a word without pronunciation says

COMMENT = ";;;"
VARIANT = re.compile(r"\(\d+\)$")

Lexicon = dict[str, tuple[str, ...]]


def read_lexicon(paths: Sequence[str | Path]) -> Lexicon:
    """Return the first pronunciation of every word, of the first file that has the word.

    Args:
        paths: text files with lines of a word and its phones, as those of CMU and LibriSpeech: `WORD  W ER1 D`, further
            pronunciations on lines of their own or as `WORD(2)`, comments after `;;;`.

    Raises:
        UserError: missing, not text, without words, or a line with something that is no phone.
    """
    found: Lexicon = {}
    for path in paths:
        words = 0
        for number, line in enumerate(_lines(path), start=1):
            word, *phones = line.partition(COMMENT)[0].partition("#")[0].split() or [""]
            wrong = [phone for phone in phones if phone not in KNOWN]
            if word and (wrong or not phones):
                raise UserError(
                    f"line {number} of {path} is {line.strip()!r}; expected a word and its ARPAbet phones with stress "
                    "digits, such as 'WORD W ER1 D'"
                )
            if word:
                found.setdefault(VARIANT.sub("", word.upper()), tuple(phones))
                words += 1
        if not words:
            raise UserError(f"task.lexicon={path} has no words; expected lines such as 'WORD W ER1 D'")
    return found


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="strict").splitlines()
    except OSError as error:
        raise UserError(f"task.lexicon={path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"task.lexicon={path} is not UTF-8 text; convert it first") from error


def pronounce(text: str, lexicon: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the phones of a text, MISSING for a word without pronunciation; quotation marks around words go."""
    spoken: list[str] = []
    for word in normalise(text).split():
        spoken += lexicon.get(word) or lexicon.get(word.strip("'")) or (MISSING,)
    return spoken


def encode(phones: Iterable[str]) -> Tensor:
    """Return the CTC target of phones: their numbers and `<eos>`."""
    return torch.tensor([*(INDEX.get(phone, UNKNOWN) for phone in phones), END])


def decode(symbols: Iterable[int]) -> list[str]:
    """Return the phones of symbol numbers; special symbols are dropped."""
    return [SYMBOLS[number] for number in symbols if number >= len(SPECIAL)]


def transcribe(outputs: Tensor, lengths: Tensor) -> list[list[str]]:
    """Return the phones of scores (B, T, V) with (B,) valid frames, decoded greedily."""
    return [decode(symbols) for symbols in greedy(outputs, lengths, BLANK)]
