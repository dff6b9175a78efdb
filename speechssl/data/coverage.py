"""How much of a published corpus is there: told in the log, and kept in `corpus.json`.

A number measured on part of a corpus does not compare with published ones, so every corpus says what it found.
"""

import logging
from collections.abc import Mapping

logger = logging.getLogger(__name__)


def coverage(corpus: str, counts: Mapping[str, tuple[int, int]], detail: str = "") -> dict[str, dict[str, int]]:
    """Log one line of what was found of what was published, as a warning where they differ; return the counts.

    Args:
        corpus: its name.
        counts: (found, published) per kind of thing, such as {"clips": (398, 400)}.
        detail: ends the line.

    Returns:
        {kind: {"found": ..., "published": ...}}, for `Preparation.coverage`.
    """
    line = ", ".join(f"{found} {kind} of {published}" for kind, (found, published) in counts.items())
    line += f", {detail}" if detail else ""
    if all(found == published for found, published in counts.values()):
        logger.info("%s: %s", corpus, line)
    elif all(found >= published for found, published in counts.values()):
        logger.warning("%s has more than was published: %s; results will not compare", corpus, line)
    else:
        logger.warning("%s is incomplete: %s; results will not compare with those on all of it", corpus, line)
    return {kind: {"found": found, "published": published} for kind, (found, published) in counts.items()}
