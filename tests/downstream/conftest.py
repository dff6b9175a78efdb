"""A made-up corpus out of columns."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, columns: dict[str, list], size: int):
        self.values, self.size = columns, size
        self.columns = sorted(columns)
        self.ids = columns.get("ids", [f"u{i}" for i in range(size)])

    def __len__(self) -> int:
        return self.size

    def column(self, name: str) -> list[Any]:
        return self.values.get(name, [None] * self.size)

    def select(self, indices: list[int]) -> "Table":
        return Table({name: [values[i] for i in indices] for name, values in self.values.items()}, len(indices))


@pytest.fixture
def make_corpus() -> Callable[..., SimpleNamespace]:
    """Return make(train={column: values}, ...); a split that is not given is as dev, dev as train."""

    def make(
        train: dict[str, list], dev: dict[str, list] | None = None, test: dict[str, list] | None = None
    ) -> SimpleNamespace:
        dev = train if dev is None else dev
        splits = {"train": train, "dev": dev, "test": dev if test is None else test}
        tables = {split: Table(columns, len(next(iter(columns.values())))) for split, columns in splits.items()}
        return SimpleNamespace(name="made-up", fold="", table=tables.__getitem__)

    return make
