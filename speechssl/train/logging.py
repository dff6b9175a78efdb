"""What a run leaves behind while it goes: metrics.jsonl, TensorBoard, snapshots, the loss curve.

`metrics.jsonl` has one JSON object per log step: step, split ("train" or "dev"), loss and every other scalar
of the task; training lines also lr, grad_norm (before clipping, mean over the window), audio_seconds (drawn
so far), and of time: seconds (trained so far), rate (audio-hours per second) and data_wait (share of the time
spent waiting for data).
"""

import json
import logging
import os
from pathlib import Path
from typing import Any

from speechssl.files import atomic_path, write_json, write_text
from speechssl.train.environment import environment

LOGGER = logging.getLogger(__name__)
TIME_FIELDS = ("seconds", "rate", "data_wait")  # all that differs between two runs of the same command
BOOKKEEPING = ("step", "split", "lr", "audio_seconds", "skipped", *TIME_FIELDS)  # tells nothing of what is learnt


def read_metrics(run_dir: str | Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl, an unfinished last line left out."""
    path = Path(run_dir) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


class RunLog:
    """Writes metrics of one run; made on rank 0 only.

    Args:
        run_dir: the run directory.
        config: what goes to config.yaml (None writes none).
        step: the step that training starts after.
        size: bytes of metrics.jsonl that belong to the checkpoint; the rest is cut off.
    """

    def __init__(self, run_dir: Path, config: dict[str, Any] | None, step: int, size: int) -> None:
        self.run_dir, self.first_step = run_dir, step
        run_dir.mkdir(parents=True, exist_ok=True)
        if config is not None:
            from omegaconf import OmegaConf

            write_text(run_dir / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
        write_json(run_dir / "environment.json", environment())
        self.path = run_dir / "metrics.jsonl"
        self._cut(size)
        self.file = self.path.open("a", encoding="utf-8")
        self.board: Any = None

    def _cut(self, size: int) -> None:
        kept = self.path.read_bytes()[:size] if self.path.is_file() else b""
        if len(kept) < size:
            LOGGER.warning("%s is shorter than when its checkpoint was written; earlier lines are missing", self.path)
        with atomic_path(self.path) as temporary:
            temporary.write_bytes(kept)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, and its numbers to TensorBoard."""
        self.file.write(json.dumps(record, allow_nan=False) + "\n")
        self.file.flush()
        if self.board is None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(self.run_dir / "tensorboard"), purge_step=self.first_step + 1)
        for name, value in record.items():
            if name not in ("step", "split") and value is not None:
                self.board.add_scalar(f"{record['split']}/{name}", value, record["step"])

    def sync(self) -> int:
        """Bring everything to disk and return the size of metrics.jsonl in bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        if self.board is not None:
            self.board.flush()
        return self.path.stat().st_size

    def close(self) -> None:
        self.sync()
        self.file.close()
        if self.board is not None:
            self.board.close()

    def draw(self) -> None:
        """Draw the loss curve of the whole run and, where the task logs more than that, a panel for each scalar."""
        from speechssl.figures.curves import draw_curves

        records = read_metrics(self.run_dir)
        draw_curves(records, self.run_dir / "curve.png")
        scalars = list(dict.fromkeys(name for record in records for name in record if name not in BOOKKEEPING))
        if len(scalars) > 1:
            draw_curves(records, self.run_dir / "curves.png", scalars)
