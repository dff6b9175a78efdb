"""Errors a user can mend. The command line prints their message as one line and exits with status 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Wrong input, settings or files: the message says what was expected, what was found and what to do."""


class AudioError(UserError):
    """An audio file that cannot be used (missing, truncated, not finite, empty); long jobs skip and list it."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `; nearest: 'x'` for the most similar known word, or an empty string where none is similar."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; nearest: {match[0]!r}" if match else ""
