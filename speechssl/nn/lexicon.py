"""Pronunciation lexicons: which phones a text is made of.

The syntax of CMUdict and of the lexicons published with LibriSpeech (https://www.openslr.org/11): a line per
pronunciation, the word, then its phones, with tabs or spaces between. Of several pronunciations the first counts.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from speechssl.errors import UserError
from speechssl.nn.text import normalise

COMMENT, AFTER = ";;;", "#"  # a line that is a comment; a comment behind the phones
VARIANT = re.compile(r"\(\d+\)$")  # READ(2), how CMUdict numbers further pronunciations
UNKNOWN = "<unk>"  # SUPERB's symbol for what has no pronunciation
EXPECTED = "expected a word and its ARPAbet phones with stress digits, such as 'WORD W ER1 D'"

Lexicon = dict[str, tuple[str, ...]]


def read_lexicon(paths: Iterable[str | Path], phones: Collection[str] | None = None) -> Lexicon:
    """Return the first pronunciation of every word, upper case, of the first file that has the word.

    Args:
        paths: the files.
        phones: that there are; None = any.

    Raises:
        UserError: a file that is missing, not text or without words, or a line with something that is no phone.
    """
    found: Lexicon = {}
    for path in paths:
        words = 0
        for number, line in enumerate(_lines(path), 1):
            if line.startswith(COMMENT):
                continue
            word, *spoken = line.partition(AFTER)[0].split() or [""]
            known = phones is None or all(phone in phones for phone in spoken)
            if word and not (spoken and known):
                raise UserError(f"line {number} of the lexicon {path} is {line.strip()!r}; {EXPECTED}")
            if word:
                found.setdefault(VARIANT.sub("", word.upper()), tuple(spoken))
                words += 1
        if not words:
            raise UserError(f"the lexicon {path} has no words; {EXPECTED}")
    return found


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the lexicon {path} cannot be read as text ({error}); {EXPECTED}") from error


def pronounce(text: str, lexicon: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the phones of a text, UNKNOWN for a word without pronunciation; quotation marks around words go."""
    spoken: list[str] = []
    for word in normalise(text).split():
        spoken += lexicon.get(word) or lexicon.get(word.strip("'")) or (UNKNOWN,)
    return spoken
