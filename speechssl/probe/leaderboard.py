"""One line per upstream over all tasks of the suite, with scores where they are defined.

The mean score averages all metrics of the suite, errors as 100 minus the error (Chen et al., 2022,
https://arxiv.org/abs/2110.13900). The SUPERB score (Feng et al., 2022, https://arxiv.org/abs/2210.08634) places each
metric between a baseline (0) and the best system of a board (1000), averages within tasks and then over tasks; it means
nothing without that board, which the user gives in a file with its date. A task that was not run is left out, and the
score is called partial: nothing is filled in.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import write_json, write_text
from speechssl.probe import table

LEADERBOARD = "leaderboard.json"
Figures = dict[str, float]  # {"task.metric": value}


@dataclass(frozen=True)
class BoardSettings:
    """What a leaderboard is compared with.

    Attributes:
        reference: {"date": ..., "baseline": figures, "best": figures} of the SUPERB score, or None.
        published: {upstream: figures} of other people's rows, shown beside ours and marked.
    """

    reference: dict[str, Any] | None = None
    published: dict[str, Figures] = field(default_factory=dict)


def read_settings(reference: str | None = None, published: str | None = None) -> BoardSettings:
    """Read the files of a leaderboard.

    Raises:
        UserError: a file that is missing or says something else.
    """
    board = None if reference is None else _read(reference)
    if board is not None and not all(name in board for name in ("date", "baseline", "best")):
        raise UserError(f'{reference} expects {{"date": ..., "baseline": {{"ks.acc": ...}}, "best": {{...}}}}')
    rows = {} if published is None else _read(published)
    known = suite()
    named = [*rows.items()] + ([] if board is None else [(name, board[name]) for name in ("baseline", "best")])
    for name, figures in named:
        unknown = [key for key in figures if key not in known]
        if unknown:
            raise UserError(f"{name} has a figure {unknown[0]!r}; known: {', '.join(known)}")
    return BoardSettings(board, rows)


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error


def suite() -> dict[str, str]:
    """Return {"task.metric": mode} of all metrics that tasks of the suite declare."""
    tasks = {name: registry.module("downstream", name).TASK.superb for name in registry.names("downstream")}
    return {f"{name}.{metric}": mode for name, metrics in tasks.items() for metric, mode in metrics.items()}


def figures_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, Figures]:
    """Return {upstream: figures}, means over folds and seeds; a task in two protocols or corpora has no figure."""
    grouped: dict[str, dict[str, dict[tuple, list[Mapping[str, Any]]]]] = {}
    for row in rows:
        column = (row["protocol"], row["corpus"], row["view"])
        grouped.setdefault(row["upstream"], {}).setdefault(row["task"], {}).setdefault(column, []).append(row)
    return {
        upstream: {name: value for columns in tasks.values() for name, value in _means(columns).items()}
        for upstream, tasks in grouped.items()
    }


def _means(columns: Mapping[tuple, Sequence[Mapping[str, Any]]]) -> Figures:
    if len(columns) > 1:
        return {}
    found = next(iter(columns.values()))
    names = [name for name in found[0].get("superb") or {} if name.partition(".")[2] in found[0]["metrics"]]
    return {name: float(np.mean([row["metrics"][name.partition(".")[2]] for row in found])) for name in names}


def mean_score(figures: Figures, metrics: Mapping[str, str]) -> float:
    """Return the mean of all figures, errors as 100 minus the error; NaN without any."""
    values = [
        figures[name] if mode == "max" else 100 - figures[name] for name, mode in metrics.items() if name in figures
    ]
    return float(np.mean(values)) if values else float("nan")


def superb_score(figures: Figures, reference: Mapping[str, Any]) -> float:
    """Return the SUPERB score over the tasks of which all figures and all references are there; NaN without any.

    Which way is better needs no telling: it is the way from the baseline to the best.
    """
    baseline, best = reference["baseline"], reference["best"]
    tasks: dict[str, list[float]] = {}
    for name in baseline.keys() & best.keys():
        tasks.setdefault(name.partition(".")[0], []).append(
            (figures[name] - baseline[name]) / (best[name] - baseline[name]) if name in figures else float("nan")
        )
    values = [np.mean(parts) for parts in tasks.values() if not np.isnan(parts).any()]
    return float(1000 * np.mean(values)) if values else float("nan")


def missing_tasks(figures: Figures, metrics: Mapping[str, str]) -> list[str]:
    """Return the tasks of the suite of which a figure is missing."""
    return sorted({name.partition(".")[0] for name in metrics if name not in figures})


def board(rows: Iterable[Mapping[str, Any]], settings: BoardSettings) -> dict[str, Any]:
    """Return the leaderboard as plain values: suite, reference date, and a line per upstream."""
    metrics, lines = suite(), []
    sources = [(name, figures, False) for name, figures in figures_of(rows).items()]
    sources += [(name, figures, True) for name, figures in settings.published.items()]
    for name, figures, published in sources:
        absent = missing_tasks(figures, metrics)
        mean = mean_score(figures, metrics)
        line = {"upstream": name, "published": published, "figures": figures, "mean": mean, "missing": absent}
        if settings.reference is not None:
            line["superb_score"] = superb_score(figures, settings.reference)
        lines.append({key: None if value != value else value for key, value in line.items()})
    date = None if settings.reference is None else settings.reference["date"]
    return {"metrics": metrics, "reference_date": date, "lines": lines}


def markdown(found: Mapping[str, Any]) -> str:
    """Return the leaderboard as a Markdown table, or "" where less than half of the suite is there.

    With a reference, or published rows to stand beside, it is always shown.
    """
    shown = [name for name in found["metrics"] if any(name in line["figures"] for line in found["lines"])]
    scored = found["reference_date"] is not None
    tasks, every = ({name.partition(".")[0] for name in names} for names in (shown, found["metrics"]))
    asked = scored or any(line["published"] for line in found["lines"])
    if not shown or (2 * len(tasks) < len(every) and not asked):
        return ""
    head = ["upstream", *(_title(name, found["metrics"][name]) for name in shown), "mean"]
    head += [f"SUPERB score ({found['reference_date']})"] if scored else []
    lines = []
    for line in found["lines"]:
        partial = " (partial)" if line["missing"] else ""
        cells = [_number(line["figures"].get(name)) for name in shown]
        cells += [_number(line["mean"]) + partial]
        cells += [_number(line["superb_score"], 0) + partial] if scored else []
        lines.append([line["upstream"] + (" (published)" if line["published"] else ""), *cells])
    left = sorted({task for line in found["lines"] if not line["published"] for task in line["missing"]})
    note = "Mean over all figures, errors as 100 minus the error. "
    note += f"Partial: without {', '.join(left)}; compare only lines with the same tasks.\n" if left else "\n"
    return f"\n## Suite\n\n{table.markdown_table(head, lines)}\n{note}"


def _title(name: str, mode: str) -> str:
    task, _, metric = name.partition(".")
    return f"{task.upper()} {metric} {table.ARROWS[mode]}"


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def write(
    run_dir: Path, every: Sequence[dict[str, Any]], asked: Sequence[dict[str, Any]], settings: BoardSettings
) -> None:
    """Write `results.md` of all rows of a run directory, and the leaderboard.

    Of tasks in several protocols the leaderboard has the rows that were asked for now.
    """
    now = {row["task"] for row in asked}
    found = board([*asked, *(row for row in every if row["task"] not in now)], settings)
    write_json(run_dir / LEADERBOARD, found)
    write_text(run_dir / "results.md", table.markdown(every) + markdown(found))
