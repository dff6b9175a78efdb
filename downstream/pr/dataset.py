"""SUPERB's 74 phone symbols: phones of a manifest to numbers, and scores to phones."""

from collections.abc import Iterable

import torch
from torch import Tensor

from speechssl.nn.ctc_decode import greedy
from speechssl.nn.lexicon import UNKNOWN as UNKNOWN_WORD

LABEL = "phones"
SPECIAL = ("<pad>", "<eos>", UNKNOWN_WORD)  # <pad> doubles as the CTC blank
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


def encode(phones: Iterable[str]) -> Tensor:
    """Return the CTC target of phones: their numbers and `<eos>`."""
    return torch.tensor([*(INDEX.get(phone, UNKNOWN) for phone in phones), END])


def decode(symbols: Iterable[int]) -> list[str]:
    """Return the phones of symbol numbers; special symbols are dropped."""
    return [SYMBOLS[number] for number in symbols if number >= len(SPECIAL)]


def transcribe(outputs: Tensor, lengths: Tensor) -> list[list[str]]:
    """Return the phones of scores (B, T, V) with (B,) valid frames, decoded greedily."""
    return [decode(symbols) for symbols in greedy(outputs, lengths, BLANK)]
