"""Paths that come in line by line, with a word about when they pause."""

import os
import queue
import threading
from collections.abc import Iterator
from typing import IO

from speechssl.deploy.recordings import AudioFile
from speechssl.errors import UserError

PAUSE_SECONDS = 0.2  # without a further line: what has been read is answered
AHEAD = 1000  # lines that are read before they are asked for


def lines_of(pipe: IO[str] | None) -> Iterator[AudioFile | None]:
    """Yield a file for every line, and None where lines pause.

    Raises:
        UserError: a pipe that is closed or breaks, or names that end in zeros instead of lines.
    """
    if pipe is None:
        raise UserError("inputs=- expects a path in every line of stdin, and stdin is closed; pipe them in")
    source = getattr(pipe, "buffer", pipe)  # bytes: a file name need not be text
    lines: queue.Queue[str | Exception | None] = queue.Queue(maxsize=AHEAD)

    def read() -> None:
        try:
            for line in source:
                lines.put(os.fsdecode(line).rstrip("\r\n"))
            lines.put(None)
        except (OSError, ValueError) as error:  # told by the thread that waits
            lines.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=PAUSE_SECONDS)
        except queue.Empty:
            yield None
            line = lines.get()
        if line is None:
            return
        if isinstance(line, Exception):
            raise UserError(f"stdin cannot be read any further ({line})") from line
        if "\0" in line:
            raise UserError("inputs=- expects a path in every line of stdin, found zeros between them (-print0?)")
        if line.strip():
            yield AudioFile(line)
