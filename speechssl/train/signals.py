"""SIGTERM asks a run to save and end: schedulers send it some time before they kill."""

import signal
import threading
from types import FrameType

STOPPED = 143  # exit status after SIGTERM, 128 + 15 as shells count


class StopRequest:
    """Notes SIGTERM while the block runs; only the main thread can listen."""

    def __init__(self, listen: bool) -> None:
        self.requested = False
        self.listen = listen and threading.current_thread() is threading.main_thread()

    def __enter__(self) -> "StopRequest":
        if self.listen:
            self.previous = signal.signal(signal.SIGTERM, self._note) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        if self.listen:
            signal.signal(signal.SIGTERM, self.previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
