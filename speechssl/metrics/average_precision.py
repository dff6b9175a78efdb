"""Mean average precision, area under the ROC curve and d-prime of multi-label scores, as AudioSet is scored.

Gemmeke et al., 2017, "Audio Set: an ontology and human-labeled dataset for audio events". Average precision is the
sum over positives of the precision at their rank, with equal scores as one rank (scikit-learn's definition: no
interpolation). All means are macro means: every class counts the same. A class without a positive has no average
precision; it is left out of the mean, and counted. d-prime is sqrt(2) times the normal quantile of the mean AUC.

Utterances may be weighted. A bootstrap weights them by how often they were drawn, so that every class is sorted once
for all resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from torch import Tensor

DECIMALS = 5  # of the scores that are kept; metrics are computed from these, so that written predictions give the same
BLOCK = 64  # resamples at a time; (N, 64) float64 weights of 20 000 utterances are 10 MB
PERFECT = 1e-9  # d-prime of an AUC of 1 is infinite: it is reported as that of 1 - 1e-9, which is 8.48


@dataclass(frozen=True)
class Ranking:
    """One class's utterances by falling score; a group is all utterances of one score, here of those with a positive.

    Attributes:
        order: utterances by falling score, up to the end of the last group.
        positives: utterances of the class, by falling score.
        first: (G,) where each group starts among `positives`.
        starts: (G,) where each group starts in `order`.
        ends: (G,) where each group ends in `order`, exclusive.
    """

    order: np.ndarray
    positives: np.ndarray
    first: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def rank(scores: np.ndarray, positive: np.ndarray) -> Ranking:
    """Sort the scores (N,) of a class with at least one positive (N,) bool."""
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    falling = scores[order]
    begins = np.concatenate([[0], np.flatnonzero(falling[1:] != falling[:-1]) + 1, [len(scores)]])
    hits = np.flatnonzero(positive[order])
    groups, first = np.unique(np.searchsorted(begins, hits, side="right") - 1, return_index=True)
    starts, ends = begins[groups], begins[groups + 1]
    return Ranking(order[: ends[-1]], order[hits], first, starts, ends)


def average_precision(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """Return (R,) average precisions under weights (N, R); NaN where all positives weigh nothing."""
    before = np.concatenate([[0], ranking.ends[:-1]])
    reached = np.add.reduceat(weights[ranking.order], before, axis=0).cumsum(axis=0)  # (G, R) down to each group
    hits = np.add.reduceat(weights[ranking.positives], ranking.first, axis=0)
    found = hits.cumsum(axis=0)
    gained = hits * _quotient(found, reached, 0.0)
    return _quotient(gained.sum(axis=0), found[-1], np.nan)


def area_under_curve(ranking: Ranking, weights: np.ndarray) -> np.ndarray:
    """Return (R,) chances under weights (N, R) that a positive scores above a negative; NaN without one of the two."""
    upto = np.concatenate([np.zeros((1, weights.shape[1])), weights[ranking.order].cumsum(axis=0)])
    hits = np.add.reduceat(weights[ranking.positives], ranking.first, axis=0)
    found = hits.cumsum(axis=0)
    negatives = weights.sum(axis=0) - found[-1]
    above = upto[ranking.starts] - (found - hits)  # negatives with a higher score
    tied = upto[ranking.ends] - upto[ranking.starts] - hits
    won = (hits * (negatives - above - 0.5 * tied)).sum(axis=0)
    return _quotient(won, found[-1] * negatives, np.nan)


def _quotient(above: np.ndarray, below: np.ndarray, otherwise: float) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), otherwise), where=below > 0)


class RankedScores:
    """Class scores of utterances, sorted once per class.

    Args:
        scores: (N, C).
        positive: (N, C) bool, whether an utterance has a class.
    """

    def __init__(self, scores: np.ndarray, positive: np.ndarray):
        self.size, self.cells = len(scores), scores.size
        self.classes = np.flatnonzero(positive.any(axis=0))  # those with a positive
        self.rankings = [rank(scores[:, c], positive[:, c]) for c in self.classes]

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) mean average precisions in percent where utterance i counts weights[r, i] times.

        Classes whose positives all weigh nothing are left out of that mean; NaN where that is so for all of them.
        """
        means = []
        for start in range(0, len(weights), BLOCK):
            block = np.ascontiguousarray(np.asarray(weights[start : start + BLOCK], np.float64).T)
            total, count = np.zeros((2, block.shape[1]))
            for ranking in self.rankings:
                values = average_precision(ranking, block)
                known = ~np.isnan(values)
                total += np.where(known, values, 0.0)
                count += known
            means.append(_quotient(100.0 * total, count, np.nan))
        return np.concatenate(means)

    def area(self) -> float:
        """Return the mean area under the curve, of the classes with a positive and a negative; NaN without any."""
        weights = np.ones((self.size, 1))
        found = np.array([area_under_curve(ranking, weights)[0] for ranking in self.rankings])
        known = found[~np.isnan(found)]
        return float(known.mean()) if len(known) else float("nan")


def d_prime(area: float) -> float:
    """Return the separation of two unit normal distributions with this area under the curve; NaN of NaN."""
    if area != area:
        return area
    return float(2**0.5 * NormalDist().inv_cdf(min(max(area, PERFECT), 1.0 - PERFECT)))


def ranked(records: Sequence[dict[str, Any]]) -> RankedScores:
    """Return the scores of `MeanAveragePrecision.records()`, of one run of it or as read from a file."""
    scores = np.array([record["scores"] for record in records], np.float64)
    positive = np.zeros(scores.shape, bool)
    for row, record in zip(positive, records, strict=True):
        row[record["positives"]] = True
    return RankedScores(scores, positive)


class MeanAveragePrecision:
    """Accumulates class scores (B, C) of utterances with any number of labels.

    Args:
        classes: names of the C classes; labels of other names cannot be recognised and are not scored.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)
        self._index = {name: number for number, name in enumerate(self.classes)}
        self._ids: list[str] = []
        self._references: list[list[str]] = []
        self._scores: list[np.ndarray] = []
        self._ranked: RankedScores | None = None

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds the names of each utterance's classes."""
        self._scores.append(np.round(outputs.detach().double().cpu().numpy(), DECIMALS))
        self._references += [list(names) for names in labels["reference"]]
        self._ids += ids
        self._ranked = None

    def compute(self) -> dict[str, float]:
        """Return mAP and mean AUC in percent, d-prime, and how many classes they are means over.

        Without any positive, or with a score that is not finite, the means are NaN.
        """
        found = self._rank()
        precision = float(self.main(np.ones((1, found.size)))[0])
        area = float("nan") if np.isnan(precision) else found.area()
        return {
            "map": precision,
            "auc": 100.0 * area,
            "d_prime": d_prime(area),
            "classes": float(len(found.classes)),
            "classes_without_positives": float(len(self.classes) - len(found.classes)),
        }

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) mean average precisions in percent where record number i counts weights[r, i] times."""
        finite = all(np.isfinite(scores).all() for scores in self._scores)
        return self._rank().main(weights) if finite else np.full(len(weights), np.nan)

    def _rank(self) -> RankedScores:
        if self._ranked is None:
            scores = np.concatenate([np.zeros((0, len(self.classes))), *self._scores])
            positive = np.zeros(scores.shape, bool)
            for row, names in zip(positive, self._references, strict=True):
                row[self._positives(names)] = True
            self._ranked = RankedScores(scores, positive)
        return self._ranked

    def _positives(self, names: Sequence[str]) -> list[int]:
        return sorted({self._index[name] for name in names if name in self._index})

    def records(self) -> list[dict[str, Any]]:
        """Return per utterance its scores and labels; the ratio tells how many labels lead the scores.

        "hypothesis" is as many of the best classes as the utterance has labels: R-precision, for people. The main
        metric is no ratio of sums: it comes from "scores" and "positives" (numbers of classes).
        """
        scores = np.concatenate([np.zeros((0, len(self.classes))), *self._scores])
        return [self._record(*entry) for entry in zip(self._ids, self._references, scores, strict=True)]

    def _record(self, name: str, reference: list[str], scores: np.ndarray) -> dict[str, Any]:
        positives = self._positives(reference)
        best = np.argsort(-scores, kind="stable")[: len(positives)].tolist()
        return {
            "id": name,
            "reference": reference,
            "hypothesis": [self.classes[number] for number in best],
            "numerator": len(set(best) & set(positives)),
            "denominator": len(positives),
            "positives": positives,
            "scores": scores.tolist(),
        }
