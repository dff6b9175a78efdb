"""Search by spoken example: which of the recordings hold a query, and when.

Scores compare the recordings with each other, so all of them are encoded before the first is answered, and their
features are held in memory.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechssl.data.shards import SAMPLE_RATE
from speechssl.deploy.answering import Answering, heading, printable, within
from speechssl.deploy.inputs import open_inputs
from speechssl.deploy.pieces import Piece
from speechssl.deploy.recordings import called
from speechssl.deploy.trained import TrainedTask
from speechssl.errors import UserError

COLUMNS = ("label", "score", "segments", "error")


class Search(Answering):
    """Queries, looked for in pieces.

    Args:
        trained: a task that trains nothing.
        key: see `Answering`, as the further settings.
        against: spoken queries, named as for `open_inputs`.
        settings: of `Answering`.
    """

    def __init__(self, trained: TrainedTask, key: str, against: str | Sequence[str] | None, **settings: Any):
        super().__init__(trained, key, **settings)
        if against is None:
            raise UserError(f"task {trained.task.name} looks for spoken queries; name them: against=FILES")
        queries = [recording for recording in open_inputs(against).recordings if recording is not None]
        self.names = called(queries)
        pieces = [Piece(one.name, 0, True, samples=one.read()) for one in queries]
        self.queries: list[Tensor] = self._in_batches(pieces, self.trained.features)
        if not all(bool(frames.isfinite().all()) for frames in self.queries):
            raise UserError(f"features of against={against} are not finite; is the audio sound?")

    def _check_threshold(self, trained: TrainedTask, threshold: float) -> None:
        raise UserError(f"task {trained.task.name} decides nothing, it ranks; leave threshold= out")

    def columns(self) -> list[str]:
        return [self.key, "task", "seconds", "start", "end", *COLUMNS]

    def encoded(self, pieces: Sequence[Piece]) -> list[tuple[Piece, Tensor | None, dict[str, Any]]]:
        """Return every piece, without its samples, with its frames and the first fields of its row."""
        heard = [piece for piece in pieces if piece.samples is not None]
        found = dict(zip(map(id, heard), self._in_batches(heard, self.trained.features), strict=True))
        rows = [(piece, found.get(id(piece)), heading(self.key, self.trained.task.name, piece)) for piece in pieces]
        for piece in heard:
            piece.samples = None
            if not bool(found[id(piece)].isfinite().all()):
                piece.error = f"{piece.name}: features are not finite; is the audio sound?"
        return [(piece, None if piece.error else frames, row) for piece, frames, row in rows]

    def search(self, encoded: Sequence[tuple[Piece, Tensor | None, dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return a row for every piece: the queries that match best as "segments", with times."""
        documents = [frames for _, frames, _ in encoded if frames is not None]
        with torch.no_grad():
            task, frame_seconds = self.trained.task, self.trained.frame_seconds
            found = iter(task.search(self.queries, documents, frame_seconds) if documents else ())
        rows = []
        for piece, frames, row in encoded:
            answer = {"error": printable(piece.error)} if frames is None else None
            rows.append(row | (answer or self._matches(next(found), piece, round(row["seconds"] * SAMPLE_RATE))))
        return rows

    def _matches(self, found: Sequence[dict[str, Any]], piece: Piece, samples: int) -> dict[str, Any]:
        both = zip(self.names, found, strict=True)
        named = [within({"label": printable(name)} | one, piece, samples) for name, one in both]
        named.sort(key=lambda one: one["cost"] if one["score"] is None else -one["score"])
        return {"label": named[0]["label"], "score": named[0]["score"], "segments": named[: self.top]}
