"""One preparation per folder at a time.

A second command on the same folder is refused, and one that follows a kill waits until the workers of the
killed one have noticed: they might still be writing. The system drops a process's locks however it ends.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from speechssl.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two commands at once do the work twice, with the same result
    fcntl = None

WAIT_SECONDS = 20.0
_held: list[IO] = []


@contextlib.contextmanager
def only_one(work: Path) -> Iterator[None]:
    """Hold the folder for the block; raises UserError where another process keeps it."""
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={work.parent} cannot be made ({error.strerror}); choose another folder") from error
    with open(work / "lock", "w") as file:
        if fcntl is not None:
            _wait_until_alone(file, work)
            fcntl.flock(file, fcntl.LOCK_SH)  # our own workers share it
        yield


def share(work: Path) -> None:
    """Hold the folder beside the main process, to the end of this (worker) process."""
    if fcntl is not None:
        _held.append(open(work / "lock"))  # noqa: SIM115 (open as long as the process lives)
        fcntl.flock(_held[-1], fcntl.LOCK_SH)


def _wait_until_alone(file: IO, work: Path) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise UserError(f"another process is preparing {work.parent}; wait for it, or end it first") from error
        time.sleep(0.05)
