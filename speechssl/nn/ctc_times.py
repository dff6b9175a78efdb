"""When CTC scores say each symbol: the frames of the best path that it holds.

CTC needs no alignment in training and is free to say a symbol late, and in fewer frames than it lasts: times are those
of the model's decisions, good to find a word by, not to cut audio at.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

DECIMALS = 6  # of scores
MILLISECONDS = 3  # decimals of seconds


class Spoken(NamedTuple):
    """A symbol of the best path.

    Attributes:
        number: of the symbol.
        start, end: seconds.
        score: its highest probability in any of its frames.
    """

    number: int
    start: float
    end: float
    score: float


def timed(outputs: Tensor, lengths: Tensor, blank: int, frame_seconds: float) -> Iterator[list[Spoken]]:
    """Yield per utterance what `speechssl.nn.ctc_decode.greedy` yields, with times and scores.

    Args:
        outputs: (B, T, V) scores before the softmax.
        lengths: (B,) valid frames.
        blank: index of the blank symbol.
        frame_seconds: between two of these frames.
    """
    probabilities, best = outputs.detach().float().softmax(dim=-1).amax(dim=-1), outputs.argmax(dim=-1)
    frames = torch.arange(best.shape[1], device=best.device)
    new = torch.ones_like(best, dtype=torch.bool)
    new[:, 1:] = best[:, 1:] != best[:, :-1]
    new |= frames == lengths.to(best.device)[:, None]  # padding is no part of the last run
    run = new.cumsum(dim=-1) - 1  # number of the run that a frame is in
    scores = torch.zeros_like(probabilities).scatter_reduce(1, run, probabilities, "amax")
    sizes = torch.zeros_like(best).scatter_add(1, run, torch.ones_like(best))
    kept = new & (best != blank) & (frames < lengths.to(best.device)[:, None])
    for row in range(len(best)):
        starts = kept[row].nonzero()[:, 0]
        runs = run[row, starts]
        columns = (best[row, starts], starts, starts + sizes[row, runs], scores[row, runs])
        yield [
            Spoken(number, start * frame_seconds, end * frame_seconds, score)
            for number, start, end, score in zip(*(column.tolist() for column in columns), strict=True)
        ]


def confidence(spoken: Sequence[Spoken]) -> float | None:
    """Return the geometric mean of the scores of symbols; None where there are none."""
    if not spoken:
        return None
    logarithms = [math.log(max(symbol.score, 1e-12)) for symbol in spoken]
    return round(math.exp(sum(logarithms) / len(logarithms)), DECIMALS)


def segment(label: str, spoken: Sequence[Spoken], **more: Any) -> dict[str, Any]:
    """Return {"label", ..., "start", "end", "score"} of a stretch of symbols, of which there is at least one."""
    start, end = round(spoken[0].start, MILLISECONDS), round(spoken[-1].end, MILLISECONDS)
    return {"label": label, **more, "start": start, "end": end, "score": confidence(spoken)}
