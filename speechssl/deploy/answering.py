"""Pieces of recordings to rows: the model's answers, put into words that fit a line of a file."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.data.sampler import sorted_batches
from speechssl.data.shards import SAMPLE_RATE
from speechssl.deploy.answers import finite
from speechssl.deploy.pieces import Piece, check_number
from speechssl.deploy.trained import TrainedTask
from speechssl.errors import UserError

Ask = Callable[[Sequence[Tensor]], Sequence[Any]]  # 1-D waveforms at 16 kHz to something of each

PROBE = 1600  # samples of silence that tell which fields an answer has
TIMES = 3  # decimals of seconds


class Answering:
    """A trained task, asked about pieces.

    Args:
        trained: the task, where it is to be computed.
        key: what the name of a recording is called in a row.
        top: classes that are named beside the best one; the others are left out.
        threshold: in the place of the one that dev told, for tasks that decide by one.
        max_seconds: padded audio per forward pass.
    """

    def __init__(
        self, trained: TrainedTask, key: str, *, top: int = 5, threshold: float | None = None, max_seconds: float = 60.0
    ):
        if top < 1:
            raise UserError(f"top expects at least 1, found {top}")
        if max_seconds <= 0:
            raise UserError(f"max_seconds must be positive, found {max_seconds}")
        if threshold is not None:
            self._check_threshold(trained, threshold)
            trained = replace(trained, choices=trained.choices | {"threshold": threshold})
        self.trained, self.key, self.top = trained, key, top
        self.max_samples = round(max_seconds * SAMPLE_RATE)

    def _check_threshold(self, trained: TrainedTask, threshold: float) -> None:
        check_number("threshold", threshold)
        decides = "threshold" in signature(trained.task.predictions).parameters
        if not decides or not getattr(trained.task, "multi_label", True):
            raise UserError(
                f"task {trained.task.name} decides by no threshold; it is for several labels, speakers in turn (sd) "
                "and voices that are compared (asv with against=)"
            )

    def columns(self) -> list[str]:
        """Return the fields of rows; asks the model once, so that what does not work shows before any work."""
        try:
            (answer,) = self.answers([torch.zeros(PROBE)])
        except NotImplementedError as error:
            raise UserError(f"task {self.trained.task.name} does not say what its outputs mean: {error}") from error
        return [self.key, "task", "seconds", "start", "end", *answer, "error"]

    def rows(self, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
        """Return a row for every piece, in their order."""
        heard = [piece for piece in pieces if piece.samples is not None]
        found = dict(zip(map(id, heard), self._in_batches(heard, self.answers), strict=True))
        return [self._row(piece, found.get(id(piece))) for piece in pieces]

    def _in_batches(self, pieces: Sequence[Piece], ask: Ask) -> list[Any]:
        """Return what `ask` says of each piece, asked about those of similar length together."""
        found: list[Any] = [None] * len(pieces)
        lengths = np.array([len(piece.samples) for piece in pieces], np.int64)
        for batch in sorted_batches(lengths, self.max_samples) if len(pieces) else ():
            waveforms = [torch.from_numpy(pieces[place].samples) for place in batch.indices]
            for place, answer in zip(batch.indices, ask(waveforms), strict=True):
                found[place] = answer
        return found

    def answers(self, waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return what is said of 1-D waveforms at 16 kHz."""
        return self.trained.predict(waveforms)

    def _row(self, piece: Piece, answer: dict[str, Any] | None) -> dict[str, Any]:
        row = heading(self.key, self.trained.task.name, piece)
        if answer is not None and not finite(answer):
            return row | {"error": printable(f"{piece.name}: the model's answer is not finite; is the audio sound?")}
        return row | ({"error": printable(piece.error)} if answer is None else self._shown(answer, piece))

    def _shown(self, answer: dict[str, Any], piece: Piece) -> dict[str, Any]:
        answer = _topmost(answer, self.top)
        if "segments" in answer:
            answer["segments"] = [within(one, piece, len(piece.samples)) for one in answer["segments"]]
        return answer


def within(segment: dict[str, Any], piece: Piece, samples: int) -> dict[str, Any]:
    """Return a segment with times of the recording instead of the piece; the last frame may reach beyond its end."""
    start = piece.start or 0.0
    end = start + samples / SAMPLE_RATE
    return segment | {name: round(min(start + segment[name], end), TIMES) for name in ("start", "end")}


def printable(text: str) -> str:
    """Return what can be written: a file name need not be text."""
    return text.encode("utf-8", "backslashreplace").decode()


def heading(key: str, task: str, piece: Piece) -> dict[str, Any]:
    """Return the first fields of a row: which piece it is of."""
    row: dict[str, Any] = {key: printable(piece.name), "task": task}
    if piece.samples is not None:
        row["seconds"] = round(len(piece.samples) / SAMPLE_RATE, TIMES)
    if piece.start is not None and piece.end is not None:
        row |= {"start": round(piece.start, TIMES), "end": round(piece.end, TIMES)}
    return row


def _topmost(answer: dict[str, Any], count: int) -> dict[str, Any]:
    """Return an answer with the `count` highest of its scores, also of those of its slots."""
    shown = dict(answer)
    if "scores" in shown:
        shown["scores"] = dict(list(shown["scores"].items())[:count])
    if "slots" in shown:
        shown["slots"] = {slot: _topmost(value, count) for slot, value in shown["slots"].items()}
    return shown
