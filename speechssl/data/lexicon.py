"""Pronunciation lexica: which phones a text is made of.

The syntax of CMUdict and of the lexica published with LibriSpeech (https://www.openslr.org/11): a line per
pronunciation, the word, then its phones, with tabs or spaces between. Of several pronunciations the first counts.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from speechssl.errors import UserError

VARIANT = re.compile(r"\(\d+\)$")  # READ(2), how CMUdict numbers further pronunciations
COMMENT = ";;;"
UNKNOWN = "<unk>"  # SUPERB's symbol for what has no pronunciation


def read_lexicon(paths: Iterable[str | Path]) -> dict[str, list[str]]:
    """Return the phones of every word, upper case; an earlier file or line wins.

    Raises:
        UserError: a file that is missing or no lexicon.
    """
    lexicon: dict[str, list[str]] = {}
    for path in map(Path, paths):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"lexicon {path} cannot be read ({error}); expected lines such as CAT K AE1 T") from error
        for number, line in enumerate(lines, 1):
            word, *phones = line.split() or [""]
            if not word or word.startswith(COMMENT):
                continue
            if not phones:
                raise UserError(f"lexicon {path}, line {number}: {word!r} has no phones; expected CAT K AE1 T")
            lexicon.setdefault(VARIANT.sub("", word.upper()), phones)
    return lexicon


def pronounce(text: str, lexicon: Mapping[str, list[str]]) -> list[str]:
    """Return the phones of a text, word after word, with UNKNOWN for a word that is in no lexicon."""
    return [phone for word in text.upper().split() for phone in lexicon.get(word, [UNKNOWN])]
