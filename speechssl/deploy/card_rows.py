"""Rows of a benchmark as tables of a model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechssl.deploy.card_text import code, escaped, table
from speechssl.errors import UserError
from speechssl.probe.rows import KEY, RESULTS, key_of, read_lines

NOTE = (
    "95 % intervals by bootstrap over test utterances, and over speakers where the corpus names them: utterance "
    "intervals are too narrow for new speakers. Chance is what an answer without listening gets."
)


def matching_rows(results: Sequence[str | Path], upstream_sha256: str, folder: Path) -> list[str]:
    """Return the parts of a card that show the rows about these weights, [] where no results are given.

    Raises:
        UserError: results are given, and none is about these weights.
    """
    paths = [Path(one) / RESULTS if Path(one).is_dir() else Path(one) for one in results]
    rows = [row for path in paths for row in read_lines(path) if row.get("upstream_sha256") == upstream_sha256]
    if paths and not rows:
        raise UserError(
            f"results={', '.join(map(str, paths))} holds no row about {folder} (upstream_sha256 {upstream_sha256[:16]}"
            "); benchmark these weights, or leave results out"
        )
    return [rows_table(rows), NOTE] if rows else []


def rows_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return one line per row, those with the same key once."""
    unique = {key_of(row)[1:]: row for row in rows}  # KEY without the name that it was given in the benchmark
    ordered = sorted(unique.values(), key=lambda row: [str(row[name]) for name in KEY if name != "upstream"])
    lines = [
        [
            escaped(row["task"]),
            escaped("/".join(filter(None, (row["corpus"], row["view"], row["fold"])))),
            code(row["protocol"]),
            str(row["seed"]),
            escaped(f"{row['main_metric']} ({'lower' if row['mode'] == 'min' else 'higher'} is better)"),
            f"{row['metrics'][row['main_metric']]:.2f}",
            interval(row.get("ci95")),
            interval(row.get("ci95_speaker")),
            "" if row.get("chance") is None else f"{row['chance']:.2f}",
        ]
        for row in ordered
    ]
    titles = ["task", "corpus", "protocol", "seed", "metric", "value", "95 %", "95 %, speakers", "chance"]
    return table(titles, lines)


def interval(bounds: Sequence[float | None] | None) -> str:
    """Return "12.3 to 45.6", "" where there is none."""
    if not bounds or any(bound is None for bound in bounds):
        return ""
    return f"{bounds[0]:.2f} to {bounds[1]:.2f}"
