"""Progress over all rows of a benchmark: how many are done, and how long the others will take."""

import logging
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class Agenda:
    """Counts rows and tells after each how long the rest will take.

    Args:
        total: rows.
    """

    def __init__(self, total: int):
        self.total, self.done, self.computed = total, 0, 0
        self.seconds = 0.0  # spent on rows that were computed
        self.by_task: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def item(self, task: str, *, done: bool) -> Iterator[None]:
        """Stand around the work on a row.

        Args:
            task: its name.
            done: nothing has to be computed.
        """
        started = time.monotonic()
        yield
        self.done += 1
        if done:
            return
        taken = time.monotonic() - started
        self.computed += 1
        self.seconds += taken
        self.by_task[task].append(taken)
        left = self.total - self.done
        rest = f", about {duration(left * self.seconds / self.computed)} left" if left else ""
        logger.info("row %d of %d: %s so far%s", self.done, self.total, duration(self.seconds), rest)


def duration(seconds: float) -> str:
    """Return "40 s", "3 min" or "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
