"""What a long run must notice: files that cannot be read, and a loss that has diverged."""

import json
import logging
from pathlib import Path
from typing import Any

from speechssl.errors import UserError
from speechssl.files import write_text

LOGGER = logging.getLogger(__name__)
TOLERATED = 10  # utterances that may be unreadable whatever their share: a small folder may hold a few broken files


class Readability:
    """Counts unreadable utterances over all ranks, lists each once, and stops a run that misses too many.

    Args:
        path: unreadable.jsonl, or None to keep no file.
        max_share: largest share of the utterances drawn that may be unreadable (beyond `TOLERATED` different
            ones).
    """

    def __init__(self, path: Path | None, max_share: float) -> None:
        self.path, self.max_share = path, max_share
        self.drawn = self.failed = 0  # all ranks, up to the last log step
        self.known = self._listed()
        self._fresh()

    def _fresh(self) -> None:
        self.new: dict[str, Any] = {"drawn": 0, "failed": 0, "listed": []}

    def _listed(self) -> dict[str, str]:
        if self.path is None or not self.path.is_file():
            return {}
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return {entry["id"]: entry["reason"] for entry in map(json.loads, lines)}

    def note(self, batch: Any) -> None:
        """Count a batch that this rank drew."""
        self.new["failed"] += len(batch.unreadable)
        self.new["drawn"] += len(batch.unreadable) + (0 if batch.empty else len(getattr(batch, "ids", ())))
        if batch.unreadable:
            self.new["listed"] += [(name, reason) for name, reason in batch.unreadable if name not in self.known]

    def merge(self, news: list[dict[str, Any]], write: bool) -> None:
        """Take the `new` of all ranks; raises UserError when too much is unreadable."""
        self._fresh()
        self.drawn += sum(new["drawn"] for new in news)
        self.failed += sum(new["failed"] for new in news)
        found = {name: reason for new in news for name, reason in new["listed"] if name not in self.known}
        self.known.update(found)
        if found and write:
            self._list(found)
        if self.failed == self.drawn > 0:
            raise UserError(f"none of {self._count()} could be read; {self._first()}; check data=")
        if len(self.known) > TOLERATED and self.failed > self.max_share * self.drawn:
            raise UserError(
                f"{self.failed} of {self._count()} could not be read ({len(self.known)} different), more "
                f"than trainer.max_unreadable={self.max_share}; {self._first()}; mend them, or allow more"
            )

    def _count(self) -> str:
        return f"{self.drawn} utterances drawn"

    def _first(self) -> str:
        name, reason = next(iter(self.known.items()))
        return f"the first: {name} ({reason})" + (f"; all are in {self.path}" if self.path else "")

    def _list(self, found: dict[str, str]) -> None:
        name, reason = next(iter(found.items()))
        LOGGER.warning("%d utterances could not be read and are left out, such as %s: %s", len(found), name, reason)
        if self.path is not None:
            entries = ({"id": name, "reason": reason} for name, reason in self.known.items())
            write_text(self.path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))

    def state(self) -> dict[str, int]:
        return {"drawn": self.drawn, "failed": self.failed}

    def load(self, state: dict[str, int]) -> None:
        self.drawn, self.failed = state["drawn"], state["failed"]

    def resume(self, news: list[dict[str, Any]]) -> None:
        """Take back the counts since the last log step."""
        self._fresh()
        for new in news:
            self.new = {key: self.new[key] + new[key] for key in self.new}


def check_loss(means: dict[str, float | None], updated: float | None, step: int, window: int) -> None:
    """Raise UserError when no loss of a whole log window was finite and no parameter could be updated."""
    if "loss" in means and means["loss"] is None and not updated:
        raise UserError(
            f"the loss was not finite in any of the last {window} steps (up to step {step}) and nothing was "
            "learned; try a lower optim.lr, a longer optim.warmup, a lower trainer.clip_norm or "
            "trainer.precision=32-true, and start in a new run_dir"
        )
