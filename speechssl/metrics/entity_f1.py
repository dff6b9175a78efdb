"""Micro F1 of named entities found in speech, as SLUE defines it (Shon et al., 2022, https://arxiv.org/abs/2111.10367).

An utterance's entities are an unordered multiset of (phrase, tag) pairs: one that is said twice has to be found twice.
F1 counts pairs over the corpus; `label_f1` leaves the phrases out, so that misspelt ones count as found. In percent.

Utterances may be weighted; a bootstrap weights them by how often they were drawn.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

Entity = tuple[str, str]  # tag and phrase


def matches(reference: Iterable, found: Iterable) -> int:
    """Return the size of the intersection of two multisets."""
    return sum((Counter(reference) & Counter(found)).values())


class EntityCounts:
    """Entities of N utterances.

    Args:
        right: (N,) entities found.
        total: (N,) entities said plus entities found, right or wrong.
    """

    def __init__(self, right: np.ndarray, total: np.ndarray):
        self._counts = np.stack([2.0 * np.asarray(right, np.float64), np.asarray(total, np.float64)], axis=1)
        self.cells = self._counts.size

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return F1 (R,) where utterance i counts weights[r, i] times; 0 without any entity."""
        above, below = (np.asarray(weights, np.float64) @ self._counts).T
        return 100.0 * above / np.maximum(below, 1.0)


def from_records(records: Sequence[dict[str, Any]]) -> EntityCounts:
    """Return the counts of `EntityF1.records()`, of one run of it or as read from a file."""
    right, said, found = (np.array([r[key] for r in records]) for key in ("numerator", "denominator", "found"))
    return EntityCounts(right, said + found)


class EntityF1:
    """Accumulates entities of decoded utterances; the ratio of the records is the recall.

    Args:
        decode: turns outputs (B, T, V) and lengths (B,) into what was found in each of B utterances.
        entities_of: returns its (tag, phrase) pairs, of what was found and of a reference.
        write: returns it as text for people.
    """

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], Iterable[Any]],
        entities_of: Callable[[Any], list[Entity]],
        write: Callable[[Any], str],
    ):
        self.decode, self.entities_of, self.write = decode, entities_of, write
        self._records: list[dict[str, Any]] = []
        self._labels = 0

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds what each utterance says, in the form that `decode` returns."""
        for name, reference, found in zip(ids, labels["reference"], self.decode(outputs, lengths), strict=True):
            wanted, entities = self.entities_of(reference), self.entities_of(found)
            self._labels += matches((tag for tag, _ in wanted), (tag for tag, _ in entities))
            self._records.append(
                {
                    "id": name,
                    "reference": self.write(reference),
                    "hypothesis": self.write(found),
                    "numerator": matches(wanted, entities),
                    "denominator": len(wanted),
                    "found": len(entities),
                }
            )

    def compute(self) -> dict[str, float]:
        right, said, found = (sum(r[key] for r in self._records) for key in ("numerator", "denominator", "found"))
        return {
            "f1": 200.0 * right / max(1, said + found),
            "label_f1": 200.0 * self._labels / max(1, said + found),
            "precision": 100.0 * right / max(1, found),
            "recall": 100.0 * right / max(1, said),
        }

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) F1 in percent where record number i counts weights[r, i] times."""
        return from_records(self._records).main(weights)

    def records(self) -> list[dict[str, Any]]:
        return self._records
