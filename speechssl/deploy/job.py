"""One run over recordings: read ahead, answered some at a time, written in their order, resumed."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Any

from speechssl.data.progress import ProgressLine
from speechssl.data.shards import SAMPLE_RATE
from speechssl.deploy.answering import Answering
from speechssl.deploy.answers import AnswerFile, Standard
from speechssl.deploy.inputs import Inputs
from speechssl.deploy.pieces import Piece, Windows, pieces, read_ahead
from speechssl.deploy.search import Search
from speechssl.errors import UserError

GROUP_BATCHES = 8  # that are sorted by length together; 1 where answers are waited for
GROUP_PIECES = 512


class Job:
    """One run over recordings.

    Args:
        answering: pieces to rows.
        target: where rows go.
        inputs: the recordings.
        windows: how they are cut.
        num_workers: threads that read.
    """

    def __init__(
        self, answering: Answering, target: AnswerFile | Standard, inputs: Inputs, windows: Windows, num_workers: int
    ):
        if num_workers < 0:
            raise UserError(f"num_workers expects 0 or more, found {num_workers}")
        self.answering, self.target, self.inputs = answering, target, inputs
        self.windows, self.num_workers = windows, num_workers
        self.summary: dict[str, Any] = {"answered": 0, "failed": 0, "reason": ""}

    def run(self) -> dict[str, Any]:
        """Answer what is not answered yet."""
        done, partly = self.target.done
        recordings = iter(self.inputs.recordings)
        heard = (one for one in recordings if one is not None)
        for recording in islice(heard, done):
            self.target.passed(recording.name)
        begun = list(islice(heard, 1 if partly else 0))
        if isinstance(self.target, AnswerFile):
            self.target.check("".join(one.name for one in begun))
        total = self.inputs.total
        shown = total is not None and (isinstance(self.target, AnswerFile) or not self.target.stream.isatty())
        with ProgressLine("predicting", total or 0, done, enabled=shown) as progress:
            planned = pieces(chain(begun, recordings), self.windows, partly)
            for group in self._groups(read_ahead(planned, self.num_workers)):
                self.answer(group, progress)
            self.complete()
        self.target.finish()
        return self.summary

    def answer(self, group: list[Piece], progress: ProgressLine) -> None:
        """Write the rows of some pieces."""
        self.write(self.answering.rows(group), group)
        self.advance(group, progress)

    def complete(self) -> None:
        """Do what is left after the last piece."""

    def write(self, rows: list[dict[str, Any]], group: Sequence[Piece]) -> None:
        """Write rows and how far they reach."""
        inputs, partly = self.target.done
        for piece in group:
            partly = piece.number + 1
            if piece.last:
                inputs, partly = inputs + 1, 0
                self.target.passed(piece.name)
        self.target.write(rows, inputs, partly, group[-1].name if partly else "")
        self.target.done = (inputs, partly)
        failed = [row["error"] for row in rows if "error" in row]
        self.summary["answered"] += len(rows) - len(failed)
        self.summary["failed"] += len(failed)
        self.summary["reason"] = self.summary["reason"] or next(iter(failed), "")

    @staticmethod
    def advance(group: Sequence[Piece], progress: ProgressLine) -> None:
        heard = sum(len(piece.samples) for piece in group if piece.samples is not None)
        progress.advance(sum(piece.last for piece in group), heard / SAMPLE_RATE)

    def _groups(self, read: Iterator[Piece | None]) -> Iterator[list[Piece]]:
        """Yield pieces that are answered together: a bounded amount of audio, or what came before a pause."""
        batches = GROUP_BATCHES if self.inputs.total is not None else 1
        group: list[Piece] = []
        samples = 0
        for piece in read:
            if piece is not None:
                group.append(piece)
                samples += 0 if piece.samples is None else len(piece.samples)
            full = samples >= batches * self.answering.max_samples or len(group) >= GROUP_PIECES
            if group and (piece is None or full):
                yield group
                group, samples = [], 0
        if group:
            yield group


class SearchJob(Job):
    """The same where nothing can be answered before everything has been heard."""

    answering: Search

    def run(self) -> dict[str, Any]:
        self.encoded: list[Any] = []
        return super().run()

    def answer(self, group: list[Piece], progress: ProgressLine) -> None:
        self.advance(group, progress)
        self.encoded += self.answering.encoded(group)

    def complete(self) -> None:
        rows = self.answering.search(self.encoded)
        self.write(rows, [piece for piece, _, _ in self.encoded])
