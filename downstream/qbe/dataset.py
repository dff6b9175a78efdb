"""Queries and documents: utterances with a list in the column `relevant` are queries, all others documents."""

from collections.abc import Sequence

import numpy as np

RELEVANT = "relevant"  # of a query: ids of the documents of its split that hold it


def relevance(queries: Sequence[Sequence[str]], documents: Sequence[str]) -> np.ndarray:
    """Return (Q, N) bool: whether a document is one of those that hold a query; others may be named as well."""
    place = {name: number for number, name in enumerate(documents)}
    matches = np.zeros((len(queries), len(documents)), bool)
    for row, names in zip(matches, queries, strict=True):
        row[[place[name] for name in names if name in place]] = True
    return matches
