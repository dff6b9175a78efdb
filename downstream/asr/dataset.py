"""Text as SUPERB's recogniser sees it: upper-case characters, `|` between words, 32 symbols."""

from collections.abc import Iterable

import torch
from torch import Tensor

from speechssl.nn.ctc_decode import greedy
from speechssl.nn.text import normalise

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # <s> doubles as the CTC blank
SYMBOLS = (*SPECIAL, *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
INDEX = {symbol: number for number, symbol in enumerate(SYMBOLS)}
BLANK, END, UNKNOWN, SEPARATOR = INDEX["<s>"], INDEX["</s>"], INDEX["<unk>"], INDEX["|"]


def reference(text: object) -> str | None:
    """Return the normalised text of a manifest's entry, None where there is none."""
    return None if text is None else normalise(str(text))


def encode(text: str) -> Tensor:
    """Return the CTC target of normalised text: its symbols, a trailing `|` and `</s>`."""
    symbols = [*text.replace(" ", "|"), "|"]
    return torch.tensor([*(INDEX.get(symbol, UNKNOWN) for symbol in symbols), END])


def decode(symbols: Iterable[int]) -> str:
    """Return the text of symbol indices without repeats and blanks; special symbols are dropped."""
    text = "".join(SYMBOLS[number] for number in symbols if number >= len(SPECIAL))
    return " ".join(text.replace("|", " ").split())


def transcribe(outputs: Tensor, lengths: Tensor) -> list[str]:
    """Return the text of scores (B, T, V) with (B,) valid frames, decoded greedily."""
    return [decode(symbols) for symbols in greedy(outputs, lengths, BLANK)]
