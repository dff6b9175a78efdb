"""The progress of training: a live bar on a terminal, a plain line now and then elsewhere."""

import logging
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOGGER = logging.getLogger(__name__)
LINE_EVERY = 30.0  # seconds between plain lines


class ProgressDisplay:
    """Shows step, loss, audio-hours per second, share of time spent waiting for data, and time to go.

    Args:
        total: optimizer steps of the whole run.
        start: steps already done.
        shown: False shows nothing (other ranks, tests).
    """

    def __init__(self, total: int, start: int, shown: bool) -> None:
        self.total, self.start, self.shown = total, start, shown
        self.began = self.last_line = time.monotonic()
        self.text = ""
        console = Console(stderr=True)
        self.bar: Progress | None = None
        if shown and console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}"))
            self.bar = Progress(
                TextColumn("training"), *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console
            )
            self.task = self.bar.add_task("training", total=total, completed=start, text="")
            self.bar.start()

    def describe(self, loss: float | None, rate: float, data_wait: float) -> None:
        """Take the numbers of the latest log step (rate in audio-hours per second)."""
        shown = "not finite" if loss is None else f"{loss:.4f}"
        self.text = f"loss {shown} · {rate:.3g} h/s ({3600 * rate:.0f}x real time) · data wait {data_wait:.0%}"

    def advance(self, step: int) -> None:
        """Show that a step is done; cheap enough to be called for each."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step, text=self.text)
        elif self.shown and time.monotonic() - self.last_line >= LINE_EVERY:
            self.last_line = time.monotonic()
            LOGGER.info("step %d of %d · %s · %s to go", step, self.total, self.text, self._remaining(step))

    def _remaining(self, step: int) -> str:
        seconds = (time.monotonic() - self.began) / max(1, step - self.start) * (self.total - step)
        return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
