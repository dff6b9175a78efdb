"""Maximum term-weighted value of spoken queries, times 100.

Fiscus et al., 2007, "Results of the 2006 spoken term detection evaluation", for whole documents: a system says yes to a
(query, document) pair whose score reaches a threshold. Its value is 1 - P_miss - beta * P_FA, here at the best of all
thresholds, saying no to everything (0) included. Both rates are means over queries: of misses over queries with a
document to find, of false alarms over queries with one not to find. Beta 12.49 is what a miss as bad as 100 false
alarms and a prior of 0.0008 give.

Trials may be weighted, a query by the mean weight of its trials. A bootstrap weights them by how often they, or their
queries, were drawn, so they are sorted once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

BETA = 12.49
DECIMALS = 5  # of scores; the metric is computed from what is kept, so that written predictions give the same
BLOCK = 16  # resamples at a time: several (N, 16) float64 arrays of 350 000 trials are 45 MB each
COST = 12  # reading a trial takes about as much longer than reading a score does in other metrics


class RankedTrials:
    """Trials sorted by falling score.

    Args:
        scores: (N,) larger for a match.
        matches: (N,) bool, whether the document holds the query.
        queries: (N,) number of the query.
        beta: weight of false alarms.
    """

    def __init__(self, scores: np.ndarray, matches: np.ndarray, queries: np.ndarray, beta: float = BETA):
        self.beta, self.cells, self.matches = beta, COST * len(scores), matches
        self.finite = bool(np.isfinite(scores).all())
        self.order = np.argsort(-scores, kind="stable")
        falling = scores[self.order]
        self.ends = np.flatnonzero(np.diff(falling, append=-np.inf))  # the last of equal scores each
        self.thresholds = falling[self.ends]
        # A group is a query's matches, or its other documents.
        groups, group, sizes = np.unique(2 * queries + matches, return_inverse=True, return_counts=True)
        self.group = group[self.order]
        self.by_group = np.argsort(group, kind="stable")
        self.starts = np.cumsum(sizes) - sizes
        self.of_matches = groups % 2 == 1
        _, self.query = np.unique(groups // 2, return_inverse=True)  # of each group
        self.sizes = np.bincount(self.query, sizes)  # of each query

    def curve(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rates of found matches and of false alarms (G, R) at `thresholds`, under weights (N, R)."""
        shares, falling = self._shares(weights), weights[self.order]
        both = (
            falling * np.where((self.of_matches == kind)[:, None], shares, 0.0)[self.group] for kind in (True, False)
        )
        found, false = (part.cumsum(axis=0)[self.ends] for part in both)
        return found, false

    def _shares(self, weights: np.ndarray) -> np.ndarray:
        """Return (groups, R) what a trial of weight 1 adds to the rate of its kind."""
        totals = np.add.reduceat(weights[self.by_group], self.starts, axis=0)
        draws = np.zeros((len(self.sizes), weights.shape[1]))
        np.add.at(draws, self.query, totals)
        draws = (draws / self.sizes[:, None])[self.query] * (totals > 0)
        counts = np.where(self.of_matches[:, None], draws[self.of_matches].sum(0), draws[~self.of_matches].sum(0))
        return np.divide(draws, totals * counts, out=np.zeros_like(totals), where=draws > 0)

    def values(self, weights: np.ndarray) -> np.ndarray:
        """Return term-weighted values (G, R) at `thresholds` under weights (N, R), 1 = perfect."""
        worth = np.where(self.of_matches, 1.0, -self.beta)[:, None] * self._shares(weights)
        return (weights[self.order] * worth[self.group]).cumsum(axis=0)[self.ends]

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) maximum values times 100 where trial i counts weights[r, i] times; NaN without any match."""
        if not (len(self.order) and self.finite):
            return np.full(len(weights), np.nan)
        best = []
        for start in range(0, len(weights), BLOCK):
            block = np.ascontiguousarray(np.asarray(weights[start : start + BLOCK], np.float64).T)
            values = 100.0 * np.maximum(self.values(block).max(axis=0), 0.0)
            best.append(np.where(block[self.matches].any(axis=0), values, np.nan))
        return np.concatenate(best)


def from_records(records: Sequence[dict[str, Any]]) -> RankedTrials:
    """Return the trials of `TermWeightedValue.records()`, of one run of it or as read from a file."""
    scores = np.array([record["hypothesis"] for record in records], np.float64)
    matches = np.array([record["reference"] for record in records]) == 1
    _, queries = np.unique([record["utterances"][0] for record in records], return_inverse=True)
    return RankedTrials(scores, matches, queries, records[0]["beta"] if records else BETA)


class TermWeightedValue:
    """Scores of every query in every document.

    Args:
        scores: (Q, N) larger for a match.
        relevant: (Q, N) bool, whether the document holds the query.
        queries, documents: ids.
        beta: weight of false alarms.
    """

    per_utterance = False

    def __init__(
        self,
        scores: np.ndarray,
        relevant: np.ndarray,
        queries: Sequence[str],
        documents: Sequence[str],
        beta: float = BETA,
    ):
        self.names, self.beta = (list(queries), list(documents)), beta
        self.scores, self.relevant = np.round(scores.astype(np.float64), DECIMALS), relevant
        numbers = np.repeat(np.arange(len(queries)), len(documents))
        self.trials = RankedTrials(self.scores.ravel(), relevant.ravel(), numbers, beta)

    def update(self, outputs: Any, lengths: Any, labels: dict[str, Any], ids: list[str]) -> None:
        raise TypeError("scores of queries are complete from the start")

    def compute(self) -> dict[str, float]:
        """Return the maximum value times 100, and both error rates in percent where it is reached."""
        once = np.ones((self.scores.size, 1))
        best = float(self.main(once.T)[0])
        if not best > 0:  # NaN, or saying no to everything is best
            return {"mtwv": best, "p_miss": 100.0, "p_fa": 0.0}
        found, false = self.trials.curve(once)
        place = int((found - self.beta * false)[:, 0].argmax())
        return {"mtwv": best, "p_miss": 100.0 * float(1.0 - found[place, 0]), "p_fa": 100.0 * float(false[place, 0])}

    @property
    def cells(self) -> int:
        """What a bootstrap's resample costs."""
        return self.trials.cells

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) maximum values times 100 where record number i counts weights[r, i] times."""
        return self.trials.main(weights)

    def threshold(self) -> float:
        """Return the score from which on the best system says yes; infinite where it never does."""
        values = self.trials.values(np.ones((self.scores.size, 1)))[:, 0]
        return float(self.trials.thresholds[values.argmax()]) if values.max() > 0 else float("inf")

    def records(self) -> list[dict[str, Any]]:
        """Return one record per trial; the ratio tells how many are decided wrongly at the best threshold.

        The main metric is no ratio of sums: it comes from "hypothesis", the score, "reference" and "beta".
        """
        threshold = self.threshold()
        return [
            {
                "id": f"{query} {document}",
                "utterances": [query, document],
                "reference": int(same),
                "hypothesis": score,
                "beta": self.beta,
                "numerator": int((score >= threshold) != same),
                "denominator": 1,
            }
            for query, scores, matches in zip(self.names[0], self.scores.tolist(), self.relevant.tolist(), strict=True)
            for document, score, same in zip(self.names[1], scores, matches, strict=True)
        ]
