"""Paths that come in line by line, with a word about when they pause."""

import queue
import threading
from collections.abc import Iterator
from typing import IO

from speechssl.deploy.recordings import AudioFile

PAUSE_SECONDS = 0.2  # without a further line: what has been read is answered
AHEAD = 1000  # lines that are read before they are asked for


def lines_of(pipe: IO[str]) -> Iterator[AudioFile | None]:
    """Yield a file for every line, and None where lines pause."""
    lines: queue.Queue[str | None] = queue.Queue(maxsize=AHEAD)

    def read() -> None:
        for line in pipe:
            lines.put(line.rstrip("\r\n"))
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=PAUSE_SECONDS)
        except queue.Empty:
            yield None
            line = lines.get()
        if line is None:
            return
        if line.strip():
            yield AudioFile(line)
