"""Progress of long preparations on stderr: a bar on a terminal, else one line every half minute."""

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SILENT_SECONDS = 30.0


class ProgressLine:
    """Counts items and hours of audio; tells the rate and the time left."""

    def __init__(self, what: str, total: int, done: int = 0, enabled: bool = True) -> None:
        self._what, self._total, self._done, self._hours = what, total, done, 0.0
        self._first, self._start, self._enabled = done, time.monotonic(), enabled
        self._spoken = self._start
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        if enabled and sys.stderr.isatty():
            self._bar = self._make_bar()

    def _make_bar(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        bar = Progress(*columns, console=self._console, transient=True)
        self._task = bar.add_task(self._what, total=self._total, completed=self._done, rate="")
        return bar

    def __enter__(self) -> "ProgressLine":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, items: int, seconds: float) -> None:
        """Count `items` more, holding `seconds` of audio."""
        self._done += items
        self._hours += seconds / 3600
        now = time.monotonic()
        elapsed = max(now - self._start, 1e-9)
        rate = f"{(self._done - self._first) / elapsed:.0f} files/s, {self._hours:.2f} h of audio"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif self._enabled and now - self._spoken >= SILENT_SECONDS:
            self._spoken = now
            left = elapsed * (self._total - self._done) / max(self._done - self._first, 1)
            self._console.print(f"{self._what}: {self._done}/{self._total}, {rate}, about {left:.0f} s left")
