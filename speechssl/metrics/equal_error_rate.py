"""Equal error rate and minimum detection cost of verification trials.

The rate at which as many targets are refused as others are accepted, on the ROC curve with straight lines between its
points; equal scores are one point. The detection cost is NIST's, normalised by that of the better constant answer, with
targets one in a hundred and both errors equally bad.

Trials may be weighted. A bootstrap weights them by how often they were drawn, so they are sorted once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DECIMALS = 6  # of scores; the metric is computed from what is kept, so that written predictions give the same
BLOCK = 64  # resamples at a time
TRIALS = 200_000  # scored at a time: two embeddings of 512 numbers each are 800 MB
PRIOR = 0.01  # of targets, for the detection cost


class ScoredTrials:
    """Trials sorted by falling score.

    Args:
        scores: (N,) larger for the same speaker.
        targets: (N,) bool.
    """

    def __init__(self, scores: np.ndarray, targets: np.ndarray):
        self.cells = len(scores)
        self.order = np.argsort(-scores, kind="stable")
        self.targets = targets[self.order]
        falling = scores[self.order]
        self.ends = np.flatnonzero(np.diff(falling, append=-np.inf))  # the last of equal scores each
        self.thresholds = falling[self.ends]

    def rates(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return false acceptance and acceptance rates (1 + G, R) under weights (N, R); NaN without such trials.

        The first point accepts nothing, point g + 1 every score that is at least `thresholds[g]`.
        """
        falling = weights[self.order]
        return self._rate(falling * ~self.targets[:, None]), self._rate(falling * self.targets[:, None])

    def _rate(self, falling: np.ndarray) -> np.ndarray:
        total = falling.cumsum(axis=0)
        points = np.concatenate([np.zeros((1, total.shape[1])), total[self.ends]])
        return np.divide(points, points[-1], out=np.full_like(points, np.nan), where=points[-1] > 0)

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) equal error rates in percent where trial i counts weights[r, i] times; NaN without one kind."""
        if not (self.cells and np.isfinite(self.thresholds).all()):
            return np.full(len(weights), np.nan)
        blocks = (weights[start : start + BLOCK] for start in range(0, len(weights), BLOCK))
        columns = (np.ascontiguousarray(np.asarray(block, np.float64).T) for block in blocks)
        return np.concatenate([_crossing(*self.rates(block)) for block in columns])

    def threshold(self) -> float:
        """Return the highest score at which at least as many others are accepted as targets are refused."""
        false, right = self.rates(np.ones((self.cells, 1)))
        return float(self.thresholds[max(0, int((false + right >= 1.0).argmax()) - 1)])

    def detection_cost(self, prior: float = PRIOR) -> float:
        """Return the smallest cost over all thresholds; 1 is that of the better answer without listening."""
        false, right = self.rates(np.ones((self.cells, 1)))
        costs = prior * (1.0 - right) + (1.0 - prior) * false
        return float(costs.min() / min(prior, 1.0 - prior))


def _crossing(false: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (R,) percentages where the lines between points (G, R) of ROC curves have as many errors of both kinds."""
    balance = false + right - 1.0  # rises from -1 to 1; the rates are equal at 0
    after = (balance >= 0).argmax(axis=0)[None]
    below, above = np.take_along_axis(balance, after - 1, 0), np.take_along_axis(balance, after, 0)
    low, high = np.take_along_axis(false, after - 1, 0), np.take_along_axis(false, after, 0)
    return 100.0 * (low - below / (above - below) * (high - low))[0]


def from_records(records: Sequence[dict[str, Any]]) -> ScoredTrials:
    """Return the trials of `TrialErrors.records()`, of one run of it or as read from a file."""
    scores = np.array([record["hypothesis"] for record in records], np.float64)
    return ScoredTrials(scores, np.array([record["reference"] for record in records]) == 1)


class TrialErrors:
    """Accumulates embeddings; utterance i brings its trials along.

    A score is the cosine of two embeddings. Trials whose second utterance is missing, such as an unreadable one, are
    left out and counted; those of a missing first one are never heard of.
    """

    per_utterance = False

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._embeddings: list[Tensor] = []
        self._trials: list[tuple[str, str, int]] = []
        self._scored: tuple[list[tuple[str, str, int]], ScoredTrials] | None = None

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add embeddings (B, D); labels["trials"] holds [other id, 1 or 0] pairs of each utterance."""
        self._ids += ids
        self._embeddings.append(F.normalize(outputs.detach().float(), dim=-1))
        self._trials += [
            (first, second, int(same))
            for first, pairs in zip(ids, labels["trials"], strict=True)
            for second, same in pairs or []
        ]
        self._scored = None

    def compute(self) -> dict[str, float]:
        """Return EER in percent, the smallest detection cost, and how many trials were scored and left out."""
        trials, scored = self._score()
        errors = float(scored.main(np.ones((1, scored.cells)))[0])
        return {
            "eer": errors,
            "min_dcf": float("nan") if np.isnan(errors) else scored.detection_cost(),
            "trials": float(len(trials)),
            "trials_left_out": float(len(self._trials) - len(trials)),
        }

    def threshold(self) -> float | None:
        """Return the score where both errors are as frequent; None where there are not both kinds of trials."""
        trials, scored = self._score()
        both = len({same for *_, same in trials}) == 2 and np.isfinite(scored.thresholds).all()
        return scored.threshold() if both else None

    @property
    def cells(self) -> int:
        """What a bootstrap's resample costs."""
        return self._score()[1].cells

    def main(self, weights: np.ndarray) -> np.ndarray:
        """Return (R,) EERs in percent where record number i counts weights[r, i] times."""
        return self._score()[1].main(weights)

    def records(self) -> list[dict[str, Any]]:
        """Return one record per trial; the ratio tells whether it is decided wrongly where both errors are as frequent.

        The main metric is no ratio of sums: it comes from "hypothesis", the score, and "reference".
        """
        trials, scored = self._score()
        threshold = scored.threshold() if trials else 0.0
        return [
            {
                "id": f"{first} {second}",
                "utterances": [first, second],
                "reference": same,
                "hypothesis": score,
                "numerator": int((score >= threshold) != bool(same)),
                "denominator": 1,
            }
            for (first, second, same), score in zip(trials, self._scores.tolist(), strict=True)
        ]

    def _score(self) -> tuple[list[tuple[str, str, int]], ScoredTrials]:
        if self._scored is None:
            place = {name: row for row, name in enumerate(self._ids)}
            trials = [trial for trial in self._trials if trial[0] in place and trial[1] in place]
            pairs = torch.tensor([[place[first], place[second]] for first, second, _ in trials]).reshape(-1, 2)
            self._scores = self._cosines(pairs)
            targets = np.array([same for _, _, same in trials], np.int64) == 1
            self._scored = trials, ScoredTrials(self._scores, targets)
        return self._scored

    def _cosines(self, pairs: Tensor) -> np.ndarray:
        if not len(pairs):
            return np.zeros(0)
        embeddings = torch.cat(self._embeddings)
        parts = pairs.to(embeddings.device).split(TRIALS)
        scores = torch.cat([(embeddings[part[:, 0]] * embeddings[part[:, 1]]).sum(dim=-1) for part in parts])
        return np.round(scores.double().cpu().numpy(), DECIMALS)
