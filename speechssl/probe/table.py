"""Result tables for people: upstreams down, tasks across, the best main metric in bold."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

MOST_COLUMNS = 4  # tasks beside each other
ARROWS = {"max": "↑", "min": "↓"}
PLACE = ("upstream", "data", "task", "seed", "settings", "files")  # of a row's configuration: what it is a result of
SPEED = ("device", "max_seconds", "num_workers", "save_every")  # and what changes no result but by rounding
NOTE = (
    "Single results: 95 % interval of a bootstrap over test utterances (or trials). Several folds or seeds: mean ± "
    "standard deviation over that many results. All in percent; bold is the best."
)


@dataclass(frozen=True)
class Column:
    """What is comparable: one task, protocol and test set."""

    task: str
    protocol: str
    corpus: str
    view: str
    metric: str
    mode: str

    @property
    def title(self) -> str:
        place = f"{self.corpus}/{self.view}" if self.view else self.corpus
        return f"{self.task} {self.metric.upper()} {ARROWS[self.mode]} ({place}, {self.protocol})"


@dataclass(frozen=True)
class Cell:
    """A main metric, averaged over folds and seeds."""

    mean: float
    text: str


def column_of(row: dict[str, Any]) -> Column:
    names = ("task", "protocol", "corpus", "view", "main_metric", "mode")
    return Column(*(row[name] for name in names))


def cells(rows: Iterable[dict[str, Any]]) -> dict[Column, dict[str, Cell]]:
    """Return {column: {upstream: cell}}, both in order of appearance."""
    grouped: dict[Column, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        grouped.setdefault(column_of(row), {}).setdefault(row["upstream"], []).append(row)
    return {column: {name: _cell(found) for name, found in group.items()} for column, group in grouped.items()}


def _cell(rows: Sequence[dict[str, Any]]) -> Cell:
    values = [row["metrics"][row["main_metric"]] for row in rows]
    if len(rows) == 1:
        low, high = rows[0]["ci95"]
        return Cell(values[0], f"{values[0]:.1f} [{low:.1f}, {high:.1f}]")
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    return Cell(mean, f"{mean:.1f} ± {spread:.1f} ({len(rows)})")


def _lines(rows: Iterable[dict[str, Any]], bold: tuple[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return the head and the lines of the table, the best of each column between the marks `bold`.

    Of many tasks each has a line, as a page is wide enough for a few columns only.
    """
    columns = cells(rows)
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    best = {}
    for column, group in columns.items():
        choose = max if column.mode == "max" else min
        best[column] = choose(cell.mean for cell in group.values())
    lines = []
    for name in names:
        line = [name]
        for column, group in columns.items():
            cell = group.get(name)
            text = cell.text if cell else "–"
            line.append(f"{bold[0]}{text}{bold[1]}" if cell and cell.mean == best[column] and len(group) > 1 else text)
        lines.append(line)
    head = ["upstream", *(column.title for column in columns)]
    if len(columns) <= MOST_COLUMNS:
        return head, lines
    return ["task", *names], [list(line) for line in zip(head[1:], *(line[1:] for line in lines), strict=True)]


def markdown_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *lines))


def caveats(rows: Iterable[dict[str, Any]]) -> str:
    """Return what to know before comparing: columns whose rows were made with different settings, and which these are.

    The protocol's name says most of it, but not, for example, that one upstream's heads were trained for fewer steps.
    """
    columns: dict[Column, list[dict[str, Any]]] = {}
    for row in rows:
        columns.setdefault(column_of(row), []).append(_settings(row))
    found = []
    for column, settings in columns.items():
        names = sorted({name for one in settings for name in one})
        uses = {name: sorted({str(one.get(name, "default")) for one in settings}) for name in names}
        unlike = [f"{name} ({' and '.join(values)})" for name, values in uses.items() if len(values) > 1]
        if unlike:
            found.append(f"Not all alike in {column.task} ({column.protocol}): {', '.join(unlike)}.")
    return " ".join(found)


def _settings(row: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a row that its column does not name."""
    config = row.get("config", {})
    flat = config | config.get("arguments", {}) | config.get("finetuning", {})
    return {name: value for name, value in flat.items() if name not in (*PLACE, *SPEED, "arguments", "finetuning")}


def markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Return the table of all rows as Markdown."""
    rows = list(rows)
    head, lines = _lines(rows, ("**", "**"))
    caveat = caveats(rows)
    return f"# Results\n\n{markdown_table(head, lines)}\n{NOTE}\n" + (f"\n{caveat}\n" if caveat else "")


def rich_table(rows: Iterable[dict[str, Any]]) -> Table:
    """Return the table of all rows for the terminal."""
    rows = list(rows)
    head, lines = _lines([_escaped(row) for row in rows], ("[bold]", "[/bold]"))
    shown = Table(*head, caption=f"{NOTE} {caveats(rows)}".rstrip().replace("[", "\\["))
    for line in lines:
        shown.add_row(line[0], *(cell.replace(" [", " \\[") for cell in line[1:]))
    return shown


def _escaped(row: dict[str, Any]) -> dict[str, Any]:
    """Keep rich from reading brackets in labels as styles."""
    return row | {"upstream": row["upstream"].replace("[", "\\[")}
