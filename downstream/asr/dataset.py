"""Text as SUPERB's recogniser sees it: upper-case characters, `|` between words, 32 symbols."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # <s> doubles as the CTC blank
SYMBOLS = (*SPECIAL, *"|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
INDEX = {symbol: number for number, symbol in enumerate(SYMBOLS)}
BLANK, END, UNKNOWN = INDEX["<s>"], INDEX["</s>"], INDEX["<unk>"]

NOT_SPOKEN = re.compile(r"[^\w']|_")


def normalise(text: str) -> str:
    """Return upper-case words with single blanks between them: accents and punctuation go, apostrophes stay.

    Digits and letters of other alphabets stay as well; they are <unk> to the recogniser and so count as
    errors.
    """
    plain = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(word for word in NOT_SPOKEN.sub(" ", plain.upper()).split() if word.strip("'"))


def encode(text: str) -> Tensor:
    """Return the CTC target of normalised text: its symbols, a trailing `|` and `</s>`."""
    symbols = [*text.replace(" ", "|"), "|"]
    return torch.tensor([*(INDEX.get(symbol, UNKNOWN) for symbol in symbols), END])


def decode(symbols: Iterable[int]) -> str:
    """Return the text of symbol indices without repeats and blanks; special symbols are dropped."""
    text = "".join(SYMBOLS[number] for number in symbols if number >= len(SPECIAL))
    return " ".join(text.replace("|", " ").split())


def greedy(outputs: Tensor, lengths: Tensor) -> Iterator[list[int]]:
    """Yield per utterance the best symbol of each frame, repeats merged, blanks removed.

    Args:
        outputs: (B, T, V) scores.
        lengths: (B,) valid frames.
    """
    best = outputs.argmax(dim=-1).cpu()
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    kept = new & (best != BLANK)
    for row, keep, frames in zip(best, kept, lengths.tolist(), strict=True):
        yield row[:frames][keep[:frames]].tolist()
