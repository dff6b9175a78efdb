"""From a corpus plan to a prepared folder: lhotse cuts over 16 kHz PCM16 WAV shards."""

from pathlib import Path
from typing import Any

from speechssl.data.items import Item, Preparation, View

__all__ = ["Item", "Preparation", "View", "prepare"]


def prepare(
    corpus: str,
    source: str | Path | None,
    out: str | Path,
    *,
    pack: bool = True,
    workers: int = 1,
    label_from: str | None = None,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Run the plan of `speechssl.data.corpora.<corpus>` and return the prepared folder."""
    raise NotImplementedError
