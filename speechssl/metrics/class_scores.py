"""Accuracy, macro F1 and macro recall of one class per utterance, in percent.

Macro means are unweighted means over the classes that were said or found, of each class's own value; a class that was
never found, or never said, has an F1 of 0 (scikit-learn's definition with `zero_division=0`). Recall is averaged over
the classes that were said. SLUE (Shon et al., 2022, https://arxiv.org/abs/2111.10367) scores sentiment by macro F1.

Utterances may be weighted; a bootstrap weights them by how often they were drawn.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from speechssl.metrics.accuracy import Accuracy


class Confusions:
    """References and hypotheses of N utterances as numbers of classes.

    Args:
        said, found: (N,) class numbers in 0..C - 1.
        size: C.
    """

    def __init__(self, said: np.ndarray, found: np.ndarray, size: int):
        classes = np.arange(size)
        self._said, self._found = (np.asarray(v)[:, None] == classes for v in (said, found))  # (N, C) each
        self.cells = 3 * self._said.size

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (R, C) each: utterances of a class, utterances found to be of it, and those where both is so."""
        weights = np.asarray(weights, np.float64)
        both = self._said & self._found
        said, found, right = (weights @ values.astype(np.float64) for values in (self._said, self._found, both))
        return said, found, right

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return macro F1 (R,) where utterance i counts weights[r, i] times; NaN where all weigh nothing."""
        said, found, right = self.counts(weights)
        return _mean(2.0 * right, said + found)

    def recall(self, weights: np.ndarray) -> np.ndarray:
        """Return macro recall (R,) where utterance i counts weights[r, i] times; NaN where all weigh nothing."""
        said, _, right = self.counts(weights)
        return _mean(right, said)


def _mean(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return the mean (R,) in percent of above / below (R, C) over the classes whose denominator is not 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(below > 0, above / below, 0.0)
        return 100.0 * values.sum(axis=1) / (below > 0).sum(axis=1)


def from_records(records: Sequence[dict[str, Any]]) -> Confusions:
    """Return the confusions of `ClassScores.records()`, of one run of it or as read from a file."""
    names = {name for record in records for name in (record["reference"], record["hypothesis"])}
    index = {name: number for number, name in enumerate(sorted(names))}
    said, found = (np.array([index[r[key]] for r in records], np.int64) for key in ("reference", "hypothesis"))
    return Confusions(said, found, len(index))


class ClassScores(Accuracy):
    """Accumulates predictions of class scores (B, C); the main metric is accuracy, macro means come beside it."""

    def compute(self) -> dict[str, float]:
        confusions, once = from_records(self.records()), np.ones((1, len(self.records())))
        macro = {"macro_f1": float(confusions.main(once)[0]), "macro_recall": float(confusions.recall(once)[0])}
        return super().compute() | macro


class MacroF1(ClassScores):
    """The same with macro F1 as the main metric, which is no ratio of sums."""

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) macro F1 in percent where record number i counts weights[r, i] times."""
        return from_records(self.records()).main(weights)
