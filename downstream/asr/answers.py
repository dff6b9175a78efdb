"""Recognised characters as text and as words with times."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from speechssl.downstream.asr.dataset import SEPARATOR
from speechssl.nn.ctc_times import Spoken, confidence, segment


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
