"""Recordings cut into the pieces that are answered, and read ahead by threads."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechssl.deploy.recordings import Recording
from speechssl.errors import AudioError, UserError

SHORTEST_SECONDS = 0.1  # of what is left at the end of a recording
AHEAD = 8  # pieces per thread that are read before they are asked for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Windows:
    """How recordings are cut.

    Attributes:
        window_seconds: of every window; None = recordings are answered whole.
        hop_seconds: between the starts of windows; None = one after the other.
        whole_seconds: longest recording that is answered whole; longer ones are cut into windows of this length.
    """

    window_seconds: float | None = None
    hop_seconds: float | None = None
    whole_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.hop_seconds is not None and self.window_seconds is None:
            raise UserError("hop_seconds needs window_seconds beside it: windows of that length begin so often")
        given = {"window_seconds": self.window_seconds, "hop_seconds": self.hop_seconds}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in (given | {"whole_seconds": self.whole_seconds}).items():
            check_number(name, value)
            if not value >= SHORTEST_SECONDS:
                raise UserError(f"{name} expects at least {SHORTEST_SECONDS} s, found {value}")

    def of(self, seconds: float) -> list[tuple[float, float]] | None:
        """Return start and end of the windows of a recording, the last ones shorter; None = it is answered whole."""
        length, hop = self.window_seconds, self.hop_seconds
        if length is None:
            if seconds <= self.whole_seconds:
                return None
            length = self.whole_seconds
        hop = length if hop is None else hop
        last = max(seconds - SHORTEST_SECONDS, 0.0) if hop >= length else max(seconds - length + hop - 1e-6, 0.0)
        starts = (number * hop for number in range(int(last / hop) + 1))
        return [(float(start), float(min(start + length, seconds))) for start in starts]


def check_number(name: str, value: Any) -> None:
    """Raise UserError for a setting that is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise UserError(f"{name} expects a number, found {value!r}")


@dataclass
class Piece:
    """A recording or a window of one, with its samples or the reason why there are none.

    Attributes:
        name: of the recording.
        number: of the piece within the recording, from 0.
        start, end: seconds; None for a whole recording.
        last: nothing of the recording follows.
    """

    name: str
    number: int
    last: bool
    start: float | None = None
    end: float | None = None
    samples: np.ndarray | None = None
    error: str = ""


def pieces(recordings: Iterable[Recording | None], windows: Windows, skip: int = 0) -> Iterator[tuple | None]:
    """Yield (recording, piece without samples), and None where recordings pause.

    Args:
        recordings: in their order.
        windows: how they are cut.
        skip: pieces of the first recording to leave out.
    """
    for recording in recordings:
        if recording is None:
            yield None
            continue
        for piece in _cut(recording, windows):
            if piece.number >= skip:
                yield recording, piece
        skip = 0


def _cut(recording: Recording, windows: Windows) -> list[Piece]:
    try:
        seconds = recording.seconds()
    except AudioError as error:
        return [Piece(recording.name, 0, True, error=str(error))]
    found = windows.of(seconds)
    if found is None:
        return [Piece(recording.name, 0, True)]
    if windows.window_seconds is None:
        logger.warning(
            "%s lasts %.0f s and is answered in windows of %g s (whole_seconds)",
            recording.name,
            seconds,
            windows.whole_seconds,
        )
    last = len(found) - 1
    return [Piece(recording.name, n, n == last, start, end) for n, (start, end) in enumerate(found)]


def read(recording: Recording, piece: Piece) -> Piece:
    """Return the piece with its samples, or with the error of reading them."""
    if piece.error:
        return piece
    try:
        if piece.start is None or piece.end is None:
            piece.samples = recording.read()
        else:
            piece.samples = recording.read(piece.start, piece.end - piece.start)
    except AudioError as error:
        piece.error = str(error)
    return piece


def read_ahead(planned: Iterator[tuple | None], num_workers: int) -> Iterator[Piece | None]:
    """Yield the pieces read, in their order; None once all that came before a pause has been yielded."""
    if num_workers == 0:
        yield from (None if one is None else read(*one) for one in planned)
        return
    waiting: deque[Future[Piece]] = deque()
    with ThreadPoolExecutor(num_workers) as pool:
        for one in planned:
            if one is not None:
                waiting.append(pool.submit(read, *one))
            while waiting and (one is None or len(waiting) > AHEAD * num_workers):
                yield waiting.popleft().result()
            if one is None:
                yield None
        while waiting:
            yield waiting.popleft().result()
