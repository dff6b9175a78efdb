"""Text as recognition tasks compare it: upper-case words, without punctuation."""

import re
import unicodedata

NOT_SPOKEN = re.compile(r"[^\w']|_")


def normalise(text: str) -> str:
    """Return upper-case words with single blanks between them: accents and punctuation go, apostrophes stay.

    Digits and letters of other alphabets stay as well; they are unknown symbols to a recogniser and so count as errors.
    """
    plain = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(word for word in NOT_SPOKEN.sub(" ", plain.upper()).split() if word.strip("'"))
