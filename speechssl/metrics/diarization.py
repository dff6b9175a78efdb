"""Diarization error rate: missed, falsely found and confused speech over speech, in percent.

Of frames, without a collar, overlapping speech included, each recording under its best assignment of outputs to
speakers: what `dscore` counts for SUPERB, but there in segments rounded to 10 ms. Speech is where the probability is
above a threshold, after a median filter over time. SUPERB reports the best of ten (threshold, median) pairs on test;
here all ten are counted in one pass, so that dev can choose one, and the best on test is given beside it.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)  # frames
SETTINGS = tuple((threshold, median) for median in MEDIANS for threshold in THRESHOLDS)
KINDS = ("miss", "false_alarm", "confusion")


def median_filter(speech: Tensor, frames: int) -> Tensor:
    """Return the majority of an odd number of frames around each, of bool (..., T, K); nothing is outside."""
    if frames == 1:
        return speech
    total = F.pad(speech.transpose(-1, -2).int().cumsum(dim=-1), (1, 0))  # (..., K, 1 + T)
    place = torch.arange(speech.shape[-2], device=speech.device)
    first, last = (place - frames // 2).clamp(min=0), (place + frames // 2 + 1).clamp(max=len(place))
    return ((total[..., last] - total[..., first]) > frames // 2).transpose(-1, -2)


def found_speech(probabilities: Tensor, valid: Tensor, threshold: float, median: int) -> Tensor:
    """Return bool (B, T, K): where probabilities (B, T, K) of valid frames (B, T) mean speech, after the filter."""
    return median_filter((probabilities > threshold) & valid[..., None], median)


def best_assignment(pairs: Tensor) -> Tensor:
    """Return the largest sum (...) of one entry per row and column of (..., K, K)."""
    count = pairs.shape[-1]
    orders = torch.tensor(list(permutations(range(count))), device=pairs.device)
    return pairs[..., torch.arange(count, device=pairs.device), orders].sum(dim=-1).amax(dim=-1)


def count_errors(found: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return frames (..., B, 4) of missed, falsely found and confused speech, and of all speech there is.

    Args:
        found: (..., B, T, K) bool; leading axes are different answers.
        truth: (B, T, K) bool.
        valid: (B, T) bool.
    """
    found, truth = (found & valid[..., None]).float(), (truth & valid[..., None]).float()
    voices, speakers = found.sum(dim=-1), truth.sum(dim=-1)
    right = best_assignment(found.transpose(-1, -2) @ truth)
    missed, extra = (speakers - voices).clamp(min=0), (voices - speakers).clamp(min=0)
    both = torch.minimum(voices, speakers).sum(dim=-1)
    everything = speakers.sum(dim=-1).expand_as(both)
    return torch.stack([missed.sum(dim=-1), extra.sum(dim=-1), both - right, everything], dim=-1)


def right_frames(found: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return (B,) how many (frame, speaker) cells of bool (B, T, K) agree under the best assignment."""
    signs = [(2.0 * value.float() - 1.0) * valid[..., None] for value in (found, truth)]
    frames = valid.sum(dim=-1)[:, None, None]
    return best_assignment((signs[0].transpose(-1, -2) @ signs[1] + frames) / 2)


class DiarizationErrors:
    """Accumulates logits (B, T, K) of recordings.

    Args:
        threshold: probability above which an output speaks.
        median: frames of the filter, odd.
    """

    def __init__(self, threshold: float = 0.5, median: int = 1):
        self.chosen = (threshold, median)
        self.settings = SETTINGS if self.chosen in SETTINGS else (*SETTINGS, self.chosen)
        self._ids: list[str] = []
        self._counts: list[Tensor] = []  # (settings, B, 4)
        self._right: list[Tensor] = []  # (B, 2): agreeing cells, and all
        self._speech: list[tuple[Tensor, float, Any]] = []  # of each recording: found (T, K), seconds a frame, truth

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch.

        labels["targets"] holds (T, K) zeros and ones for each recording, labels["seconds"] those of a frame, and
        labels["activity"] what the records tell as the reference.
        """
        logits = outputs.detach().float()
        truth = padded_rows(labels["targets"], logits.shape[1]).to(logits.device) > 0.5
        valid = torch.arange(logits.shape[1], device=logits.device) < lengths.to(logits.device)[:, None]
        probabilities = logits.sigmoid()
        speech = {t: (probabilities > t) & valid[..., None] for t, _ in self.settings}
        answers = torch.stack([median_filter(speech[threshold], median) for threshold, median in self.settings])
        self._counts.append(count_errors(answers, truth, valid).double().cpu())
        agreeing = right_frames(logits > 0, truth, valid)
        self._right.append(torch.stack([agreeing, lengths.to(agreeing) * truth.shape[-1]], dim=-1).double().cpu())
        own = answers[self.settings.index(self.chosen)].cpu()
        found = [row[:frames] for row, frames in zip(own, lengths.tolist(), strict=True)]
        self._speech += zip(found, labels["seconds"], labels["activity"], strict=True)
        self._ids += ids

    def compute(self) -> dict[str, float]:
        """Return percentages of speech: `der` and its three parts, and `der_test_selected`, the best of the settings.

        `frame_acc` is the percentage of (frame, speaker) cells that are right where 0.5 is the threshold.
        """
        totals = self._totals()
        own = totals[self.settings.index(self.chosen)]
        right = sum(part.sum(dim=0) for part in self._right) if self._right else torch.tensor([0.0, 0.0])
        speech = max(float(own[3]), 1.0)
        return {
            "der": 100.0 * float(own[:3].sum()) / speech,
            "der_test_selected": min(self.rates().values()),
            **{kind: 100.0 * float(value) / speech for kind, value in zip(KINDS, own[:3], strict=True)},
            "frame_acc": 100.0 * float(right[0]) / max(float(right[1]), 1.0),
        }

    def rates(self) -> dict[tuple[float, int], float]:
        """Return {(threshold, median): error rate in percent} of SUPERB's ten settings."""
        totals = self._totals()
        errors = 100.0 * totals[:, :3].sum(dim=-1) / totals[:, 3].clamp(min=1.0)
        return dict(zip(SETTINGS, errors[: len(SETTINGS)].tolist(), strict=True))

    def _totals(self) -> Tensor:
        """Return (settings, 4) frames."""
        if not self._counts:
            return torch.zeros(len(self.settings), 4, dtype=torch.float64)
        return torch.cat(self._counts, dim=1).sum(dim=1)

    def records(self) -> list[dict[str, Any]]:
        """Return per recording frames in error and of speech, and [output, start, end] of found speech in seconds."""
        own = self.settings.index(self.chosen)
        counts = torch.cat([part[own] for part in self._counts]).long().tolist() if self._counts else []
        return [
            {
                "id": name,
                "reference": truth,
                "hypothesis": segments(found, seconds),
                "numerator": missed + extra + confused,
                "denominator": speech,
            }
            for name, (found, seconds, truth), (missed, extra, confused, speech) in zip(
                self._ids, self._speech, counts, strict=True
            )
        ]


def segments(speech: Tensor, seconds: float) -> list[list[Any]]:
    """Return [output, start, end] of all stretches in bool (T, K), by output and time; `seconds` is that of a frame."""
    padded = F.pad(speech.T.int(), (1, 1))
    outputs, begins = (padded.diff(dim=-1) == 1).nonzero(as_tuple=True)
    ends = (padded.diff(dim=-1) == -1).nonzero(as_tuple=True)[1]
    rows = zip(outputs.tolist(), begins.tolist(), ends.tolist(), strict=True)
    return [[str(output), round(begin * seconds, 3), round(end * seconds, 3)] for output, begin, end in rows]


def scored_segments(speech: Tensor, probabilities: Tensor, seconds: float) -> list[dict[str, Any]]:
    """Return {"label", "start", "end", "score"} of all stretches of speech (T, K), in the order of time.

    Args:
        speech: bool.
        probabilities: (T, K), whose mean over a stretch is its score.
        seconds: of a frame.
    """
    total = F.pad(probabilities.double().cumsum(dim=0), (0, 0, 1, 0))  # (1 + T, K)
    found = []
    for output, start, end in segments(speech, seconds):
        first, last, column = round(start / seconds), round(end / seconds), int(output)
        score = round(float(total[last, column] - total[first, column]) / (last - first), 6)
        found.append({"label": output, "start": start, "end": end, "score": score})
    return sorted(found, key=lambda one: (one["start"], one["label"]))


def padded_rows(rows: Sequence[Tensor], size: int) -> Tensor:
    """Return (B, size, K) of (T, K) tensors, zero-padded at the end."""
    return torch.stack([F.pad(row, (0, 0, 0, size - row.shape[0])) for row in rows])
