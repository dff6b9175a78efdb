"""What one training of a benchmark is given and gives: its place, and its outcome."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from speechssl.data.cuts import CutTable
from speechssl.interfaces import Metric, Upstream
from speechssl.metrics.bootstrap import MainMetric
from speechssl.probe.grid import Selection


@dataclass(frozen=True)
class Place:
    """The run directory of a result.

    Attributes:
        folder: None keeps nothing.
        seed: of head and batches.
        settings: digest of all that the result depends on; a training begun with others is not continued.
        config: for people.
    """

    folder: Path | None
    seed: int
    settings: str
    config: dict[str, Any]


@dataclass
class Outcome:
    """What one training gave.

    Attributes:
        head: what was tested and is exported; None where nothing was trained.
        selection: how it was chosen.
        metrics: of it on test.
        scored: the same per test utterance, or per trial.
        sizes: utterances per split.
        unreadable: utterances left out of all splits.
        seconds: wall time of features, training and test.
        notes: further fields of the row.
        upstream: a fine-tuned model, exported beside its head; None = it was frozen.
    """

    head: nn.Module | None
    selection: Selection
    metrics: dict[str, float]
    scored: "Scored"
    sizes: dict[str, int]
    unreadable: int
    seconds: dict[str, float]
    notes: dict[str, Any] = field(default_factory=dict)
    upstream: Upstream | None = None


GROUPS = ("gender", "accent", "language")  # columns that the main metric is given for, one value at a time


@dataclass
class Scored:
    """What intervals and groups are computed from.

    Attributes:
        records: of the metric, each with "speaker"; per utterance in the order of the manifest.
        groups: {column: value per record}, of the columns that the manifest has.
        main: the main metric of weighted records, where it is no ratio of sums; else None.
    """

    records: list[dict[str, Any]]
    groups: dict[str, list[str | None]]
    main: MainMetric | None = None


def scored(metric: Metric, cuts: CutTable) -> Scored:
    """Return the records of a metric with what the manifest says of them.

    A record that is no utterance, such as a trial, belongs to the first utterance it names.
    """
    records, main = metric.records(), getattr(metric, "main", None)
    if getattr(metric, "per_utterance", True):
        records, main = _in_order(records, main, cuts)
        rows = list(range(len(records)))
    else:
        index = {name: row for row, name in enumerate(cuts.ids)}
        rows = [index[record["utterances"][0]] for record in records]
    speakers = cuts.column("speaker")
    for record, row in zip(records, rows, strict=True):
        record["speaker"] = speakers[row]
    columns = {name: cuts.column(name) for name in GROUPS}
    groups = {name: [values[row] for row in rows] for name, values in columns.items()}
    return Scored(records, {name: own for name, own in groups.items() if any(own)}, main)


def _in_order(
    records: list[dict[str, Any]], main: MainMetric | None, cuts: CutTable
) -> tuple[list[dict[str, Any]], MainMetric | None]:
    """Return the records in the order of the utterances, and `main` for that order."""
    found = {record["id"]: number for number, record in enumerate(records)}
    places = [found[name] for name in cuts.ids]
    if main is None:
        return [records[place] for place in places], None
    back = np.argsort(places)  # record number i of the metric is utterance number back[i]
    return [records[place] for place in places], lambda weights: main(weights[:, back])
