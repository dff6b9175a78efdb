"""Text as recognition tasks compare it: upper-case words without punctuation, in English letters or any others."""

import re
import unicodedata

NOT_SPOKEN = re.compile(r"[^\w']|_")


def normalise(text: str) -> str:
    """Return upper-case words with single blanks between them: accents and punctuation go, apostrophes stay.

    Digits and letters of other alphabets stay as well; they are unknown symbols to a recogniser and so count as errors.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
        text = "".join(c for c in text if not unicodedata.combining(c))
    return " ".join(word for word in NOT_SPOKEN.sub(" ", text.upper()).split() if word.strip("'"))


def upper_words(text: str) -> str:
    """Return upper-case words of any script with single blanks between them: punctuation goes, apostrophes stay.

    Accents and vowel signs stay as well. What can be written in several ways (a letter and its accent, presentation
    forms of Arabic) becomes one; characters without width go.
    """
    plain = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").upper()
    kept = "".join(_kept(character) for character in unicodedata.normalize("NFKC", plain))
    return " ".join(word for word in kept.split() if word.strip("'"))


def _kept(character: str) -> str:
    """Return letters, marks, numbers and apostrophes as they are, nothing for formatting, a blank for all else."""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    return character if category[0] in "LMN" or character == "'" else " "
