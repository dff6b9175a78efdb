"""Metrics that are no ratio of sums over records, rebuilt from the records that a benchmark has written down."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from speechssl.metrics import average_precision, class_scores, entity_f1, equal_error_rate, term_weighted

Records = Sequence[dict[str, Any]]


class Weighted(Protocol):
    """The main metric of weighted records; `cells` is how many numbers one evaluation touches."""

    cells: int

    def main(self, weights: np.ndarray) -> np.ndarray: ...


WEIGHTED: dict[str, Callable[[Records], Weighted]] = {
    "map": average_precision.ranked,
    "macro_f1": class_scores.from_records,
    "f1": entity_f1.from_records,
    "eer": equal_error_rate.from_records,
    "mtwv": term_weighted.from_records,
}


def weighted(name: str, records: Records) -> Weighted | None:
    """Return the main metric `name` of these records, in their order; None where it is a ratio of sums."""
    return WEIGHTED[name](records) if name in WEIGHTED and records else None
