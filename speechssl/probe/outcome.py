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
        head: what was tested and is exported.
        selection: how it was chosen.
        metrics: of it on test.
        records: per test utterance, in the order of `cuts`.
        cuts: the test utterances.
        sizes: utterances per split.
        unreadable: utterances left out of all splits.
        seconds: wall time of features, training and test.
        main: the main metric of weighted records, where it is no ratio of sums; else None.
        notes: further fields of the row.
        upstream: a fine-tuned model, exported beside its head; None = it was frozen.
    """

    head: nn.Module
    selection: Selection
    metrics: dict[str, float]
    records: list[dict[str, Any]]
    cuts: CutTable
    sizes: dict[str, int]
    unreadable: int
    seconds: dict[str, float]
    main: MainMetric | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    upstream: Upstream | None = None


def in_order(metric: Metric, cuts: CutTable) -> tuple[list[dict[str, Any]], MainMetric | None]:
    """Return a metric's records, with speakers, in the order of the utterances, and its `main` for that order."""
    found = {record["id"]: (number, record) for number, record in enumerate(metric.records())}
    places, records = zip(*(found[name] for name in cuts.ids), strict=True)
    for record, speaker in zip(records, cuts.column("speaker"), strict=True):
        record["speaker"] = speaker
    original = getattr(metric, "main", None)
    if original is None:
        return list(records), None
    back = np.argsort(places)  # record number i of the metric is utterance number back[i]
    return list(records), lambda weights: original(weights[:, back])
