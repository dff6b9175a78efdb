"""Result rows: `results.jsonl` has one JSON object per result, `predictions.jsonl` one per test utterance."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.errors import UserError
from speechssl.files import write_text
from speechssl.metrics.bootstrap import clustered, interval, ratio

KEY = (
    "upstream",
    "corpus",
    "view",
    "fold",
    "task",
    "protocol",
    "seed",
)  # what makes a result a different one
RESULTS = "results.jsonl"
PREDICTIONS = "predictions.jsonl"


def key_of(row: dict[str, Any]) -> tuple:
    return tuple(row[name] for name in KEY)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file; raises UserError where it is missing or damaged."""
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; expected a run directory of `speechssl benchmark`") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it, and run the benchmark again") from error


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


class Results:
    """The rows of a benchmark; `run_dir/results.jsonl` is replaced whole at every change."""

    def __init__(self, run_dir: Path):
        self.path = run_dir / RESULTS
        found = read_lines(self.path) if self.path.is_file() else []
        self._rows = {key_of(row): row for row in found}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def get(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the stored row with the key of this one."""
        return self._rows[key_of(row)]

    def finished(self, row: dict[str, Any]) -> bool:
        """Tell whether there is a row with the key and the settings digest of this one."""
        there = self._rows.get(key_of(row))
        return there is not None and there["settings"] == row["settings"]

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, or replace the one with its key, on disk."""
        self._rows[key_of(row)] = row
        write_lines(self.path, list(self._rows.values()))


def summarise(records: list[dict[str, Any]], genders: list[str | None]) -> dict[str, Any]:
    """Return intervals and groups of the main metric.

    Args:
        records: per utterance "numerator", "denominator" and "speaker".
        genders: one per utterance.
    """
    counts = np.array([[record["numerator"], record["denominator"]] for record in records], dtype=np.float64)
    speakers = [record["speaker"] for record in records]
    low, high = interval(counts[:, 0], counts[:, 1])
    named = [i for i, speaker in enumerate(speakers) if speaker is not None]
    by_speaker = None
    if len(named) == len(speakers) and len(set(speakers)) > 1:
        sums = clustered(counts, speakers)
        by_speaker = list(interval(sums[:, 0], sums[:, 1]))
    return {
        "ci95": [low, high],
        "ci95_speaker": by_speaker,
        "groups": {"speaker": _groups(counts, speakers), "gender": _groups(counts, genders)},
    }


def _groups(counts: np.ndarray, names: Sequence[str | None]) -> dict[str, float]:
    """Return {group: main metric} over the utterances that name one."""
    named = [i for i, name in enumerate(names) if name is not None]
    found = sorted({str(names[i]) for i in named})
    if not found:
        return {}
    values = ratio(clustered(counts[named], [str(names[i]) for i in named]))
    return dict(zip(found, values.tolist(), strict=True))
