"""Result rows: `results.jsonl` has one JSON object per result, `predictions.jsonl` one per test utterance."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.errors import UserError
from speechssl.files import write_text
from speechssl.metrics.bootstrap import (
    RESAMPLES,
    MainMetric,
    affordable_resamples,
    clustered,
    interval,
    percentiles,
    ratio,
    resampled_main,
)

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


def summarise(
    records: list[dict[str, Any]],
    groups: Mapping[str, Sequence[str | None]],
    mode: str,
    main: MainMetric | None = None,
    cells: int = 0,
) -> dict[str, Any]:
    """Return intervals and groups of the main metric, and how many resamples the intervals are of.

    Args:
        records: per utterance "numerator", "denominator" and "speaker".
        groups: {column: value per record}.
        mode: "max" or "min", the direction of the main metric.
        main: the main metric of weighted records, where it is no ratio of sums.
        cells: numbers that one evaluation of `main` touches.
    """
    speakers = [record["speaker"] for record in records]
    figures = _Ratio(records) if main is None else _Weighted(main, len(records), cells or len(records))
    named = None not in speakers and len(set(speakers)) > 1
    values = {name: _groups(figures, members) for name, members in ({"speaker": speakers} | dict(groups)).items()}
    return {
        "ci95": list(figures.interval(None)),
        "ci95_speaker": list(figures.interval(speakers)) if named else None,
        "resamples": figures.resamples,
        "groups": values,
        "gaps": {name: gap(own, mode) for name, own in values.items() if len(own) > 1},
    }


def gap(values: Mapping[str, float], mode: str) -> dict[str, Any]:
    """Return the best and the worst group, their difference, and that in percent of the best (None where it is 0)."""
    ordered = sorted(values, key=values.__getitem__, reverse=mode == "max")
    best, worst = values[ordered[0]], values[ordered[-1]]
    difference = abs(best - worst)
    relative = 100.0 * difference / abs(best) if best else None
    return {"best": ordered[0], "worst": ordered[-1], "difference": difference, "relative": relative}


class _Ratio:
    """Intervals and groups of a ratio of sums."""

    resamples = RESAMPLES

    def __init__(self, records: Sequence[dict[str, Any]]):
        counts = [[record["numerator"], record["denominator"]] for record in records]
        self.counts = np.array(counts, dtype=np.float64)

    def interval(self, clusters: Sequence[str] | None) -> tuple[float, float]:
        sums = self.counts if clusters is None else clustered(self.counts, clusters)
        return interval(sums[:, 0], sums[:, 1])

    def groups(self, members: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
        """Return (size,) metrics; utterance members[i] is in group index[i]."""
        sums = np.zeros((size, 2))
        np.add.at(sums, index, self.counts[members])
        return ratio(sums)


class _Weighted:
    """The same of any metric of weighted records."""

    def __init__(self, main: MainMetric, size: int, cells: int):
        self.main, self.size = main, size
        self.resamples = affordable_resamples(cells)

    def interval(self, clusters: Sequence[str] | None) -> tuple[float, float]:
        names = range(self.size) if clusters is None else clusters
        units, index = np.unique(np.asarray(names), return_inverse=True)
        return percentiles(resampled_main(self.main, index, len(units), self.resamples, seed=0))

    def groups(self, members: np.ndarray, index: np.ndarray, size: int) -> np.ndarray:
        """Return (size,) metrics, NaN where a group has none; utterance members[i] is in group index[i]."""
        values = []
        for group in range(size):
            weights = np.zeros((1, self.size))
            weights[0, members[index == group]] = 1.0
            values.append(self.main(weights))
        return np.concatenate(values)


def _groups(figures: _Ratio | _Weighted, names: Sequence[str | None]) -> dict[str, float]:
    """Return {group: main metric} over the utterances that name one."""
    members = [i for i, name in enumerate(names) if name is not None]
    if not members:
        return {}
    found, index = np.unique([str(names[i]) for i in members], return_inverse=True)
    values = figures.groups(np.array(members), index, len(found))
    return {str(name): float(value) for name, value in zip(found, values, strict=True) if value == value}
