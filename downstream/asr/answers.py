"""Recognised characters as text and as words with times, and the language model where it still is."""

import logging
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from speechssl.downstream.asr.beam_search import BeamOptions, BeamSearch
from speechssl.downstream.asr.dataset import SEPARATOR, Alphabet
from speechssl.errors import UserError
from speechssl.nn.ctc_times import Spoken, confidence, segment

logger = logging.getLogger(__name__)


def spoken_text(spoken: Sequence[Spoken], symbols: Sequence[str]) -> dict[str, Any]:
    """Return "text", the "score" of its letters, and its words as "segments".

    Args:
        spoken: symbols in their order, none of them special.
        symbols: by number.
    """
    words = [list(group) for apart, group in groupby(spoken, lambda one: one.number == SEPARATOR) if not apart]
    segments = [segment("".join(symbols[letter.number] for letter in word), word) for word in words]
    return {
        "text": " ".join(word["label"] for word in segments),
        "score": confidence([letter for word in words for letter in word]),
        "segments": segments,
    }


def search_if_there(lm: str | None, lexicon: str | None, beam: BeamOptions, alphabet: Alphabet) -> BeamSearch | None:
    """Return the search with a language model (see `BeamSearch`); None, and a warning, where its files are gone."""
    try:
        return BeamSearch(str(lm), str(lexicon), beam, alphabet)
    except UserError as error:
        logger.warning("answers come without the language model: %s", error)
        return None
