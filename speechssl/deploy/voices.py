"""Verification against enrolled voices: whose voice is nearest, and whether it is near enough."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.deploy.answering import Answering, printable
from speechssl.deploy.inputs import open_inputs
from speechssl.deploy.pieces import Piece
from speechssl.deploy.recordings import Recording, Utterance, called
from speechssl.deploy.trained import TrainedTask
from speechssl.errors import UserError

SPEAKER = "speaker"  # column of a manifest
TOGETHER = 64  # recordings that are read before they are encoded


class Voices(Answering):
    """Cosines to enrolled voices; a voice is the mean of the embeddings of its recordings.

    Args:
        trained: a task whose answers are embeddings.
        key: see `Answering`, as the further settings.
        against: recordings of enrolled voices, named as for `open_inputs`; in a folder of folders each is a voice, in
            a manifest its column `speaker` tells, else every file is a voice of its own.
        settings: of `Answering`.
    """

    def __init__(self, trained: TrainedTask, key: str, against: str | Sequence[str], **settings: Any):
        threshold = settings.pop("threshold", None)
        super().__init__(trained, key, **settings)
        self.threshold = trained.choices.get("threshold") if threshold is None else threshold
        self.names, self.voices = self._enrolled(against)

    def answers(self, waveforms: Sequence[Tensor]) -> list[dict[str, Any]]:
        """Return the nearest voice as "label", its cosine as "score", those of all, and whether it is "accepted"."""
        scores = self._embeddings(waveforms) @ self.voices.T
        found = []
        for row in scores.clamp(-1.0, 1.0).tolist():
            ranked = sorted(zip(self.names, row, strict=True), key=lambda one: -one[1])
            label, score = ranked[0]
            answer = {"label": label, "score": round(score, 6), "scores": {n: round(v, 6) for n, v in ranked}}
            found.append(answer | ({} if self.threshold is None else {"accepted": score >= self.threshold}))
        return found

    def _embeddings(self, waveforms: Sequence[Tensor]) -> Tensor:
        """Return (B, D) embeddings of length 1."""
        found = super().answers(waveforms)
        return F.normalize(torch.tensor([one["embedding"] for one in found]), dim=-1)

    def _enrolled(self, against: str | Sequence[str]) -> tuple[list[str], Tensor]:
        """Return the names of voices and their (V, D) embeddings of length 1."""
        sums: dict[str, Tensor] = {}
        named = iter(labelled(against))
        while some := list(islice(named, TOGETHER)):
            found = self._in_batches([Piece(name, 0, True, samples=one.read()) for one, name in some], self._embeddings)
            for (_, name), embedding in zip(some, found, strict=True):
                sums[name] = sums.get(name, torch.zeros_like(embedding)) + embedding
        if not sums:
            raise UserError(f"against={against} names no recordings; expected some of every enrolled voice")
        return list(sums), F.normalize(torch.stack(list(sums.values())), dim=-1)


def labelled(against: str | Sequence[str]) -> Iterable[tuple[Recording, str]]:
    """Yield recordings with what they are called."""
    root = Path(against) if isinstance(against, str) and Path(against).is_dir() else None
    recordings = [one for one in open_inputs(against).recordings if one is not None]
    for recording, name in zip(recordings, called(recordings), strict=True):
        yield recording, printable(_group(recording, root) or name)


def _group(recording: Recording, root: Path | None) -> str:
    """Return the speaker of an utterance, or the folder of a file; "" where there is none."""
    if isinstance(recording, Utterance):
        speaker = recording.table.column(SPEAKER)[recording.row]
        return "" if speaker is None else str(speaker)
    below = Path(recording.name).relative_to(root).parts if root is not None else ()
    return below[0] if len(below) > 1 else ""
