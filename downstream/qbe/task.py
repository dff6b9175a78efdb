"""Spoken term detection by example with dynamic time warping, as SUPERB has it on QUESST 2014 (Yang et al., 2021).

Nothing is trained: every hidden state is a system of its own; dev queries choose the one that test queries are searched
with. Features are normalised by mean and standard deviation over all frames of a split, and scores per query over
documents. Differs from the published runs: term-weighted values are computed here, not by QUESST's scripts.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.qbe.dataset import RELEVANT, relevance
from speechssl.errors import UserError
from speechssl.interfaces import Examples, LayerwiseTask, Metric
from speechssl.metrics.dtw import matching_costs
from speechssl.metrics.dtw_path import best_matches
from speechssl.metrics.term_weighted import BETA, TermWeightedValue

SMALLEST = 1e-9  # a deviation below it is taken for it, as in s3prl


class QueryByExample(LayerwiseTask):
    """Maximum term-weighted value, times 100, of spoken queries.

    Args:
        corpus: the prepared corpus; its dev and test splits hold queries and documents.
        label: column of the manifest with ids of the documents that hold a query; None for documents.
        min_frames: queries of fewer frames match all documents alike.
        beta: weight of false alarms.
    """

    name = "qbe"
    monitor = "mtwv"
    mode = "max"
    superb: ClassVar[dict[str, str]] = {"mtwv": "max"}

    def __init__(self, corpus: Corpus, *, label: str = RELEVANT, min_frames: int = 5, beta: float = BETA):
        self.corpus, self.label, self.min_frames, self.beta = corpus, label, min_frames, beta

    def dataset(self, split: str) -> Examples:
        """Return all utterances of a split; "relevant" is None for documents."""
        table = self.corpus.table(split)
        relevant = table.column(self.label)
        if None not in relevant or all(names is None for names in relevant):
            found = "no queries" if None in relevant else "no documents"
            raise UserError(
                f"search by example found {found} in {split} of {self.corpus.name}; expected a list of document ids "
                f"in the column {self.label!r} for queries, and none for documents; choose with label=COLUMN"
            )
        return Examples(table, {"relevant": relevant})

    def check(self) -> None:
        """Refuse queries for documents that are not there, and splits in which nothing is to be found.

        Documents that could not be read when the corpus was prepared are passed over.
        """
        for split in self.splits:
            examples = self.dataset(split)
            relevant = examples.labels["relevant"]
            documents = {name for name, names in zip(examples.cuts.ids, relevant, strict=True) if names is None}
            wanted = [name for names in relevant if names is not None for name in names]
            absent = sorted(set(wanted) - documents - self.corpus.left_out)
            if absent:
                raise UserError(
                    f"queries in {split} of {self.corpus.name} are to be found in {len(absent)} documents that are not "
                    f"in that split, such as {absent[0]}; prepare the corpus again"
                )
            if documents.isdisjoint(wanted):
                raise UserError(f"no query in {split} of {self.corpus.name} is in any document; nothing can be found")

    def chance(self) -> float:
        return 0.0  # no to every query and document

    def measure(self, examples: Examples, states: Callable[[int], list[Tensor]], layers: Sequence[int]) -> list[Metric]:
        """Search with each hidden state."""
        return [self._search(examples, states(layer)) for layer in layers]

    def _search(self, examples: Examples, features: list[Tensor]) -> Metric:
        ids, relevant = list(examples.cuts.ids), examples.labels["relevant"]
        queries = [i for i, names in enumerate(relevant) if names is not None]
        documents = [i for i, names in enumerate(relevant) if names is None]
        frames = standardized(features)
        scores = self.scores([frames[i] for i in queries], [frames[i] for i in documents])
        names = [ids[i] for i in queries], [ids[i] for i in documents]
        matches = relevance([relevant[i] for i in queries], names[1])
        return TermWeightedValue(scores, matches, *names, self.beta)

    def scores(self, queries: Sequence[Tensor], documents: Sequence[Tensor]) -> np.ndarray:
        """Return (Q, N) scores of mean 0 and deviation 1 per query; 0 for queries that are too short."""
        return self._normalised(matching_costs(queries, documents), queries)

    def _normalised(self, costs: Tensor, queries: Sequence[Tensor]) -> np.ndarray:
        scores = -costs.double().cpu().numpy()
        scores[[len(query) < self.min_frames for query in queries]] = 0.0
        deviations = scores.std(axis=1, keepdims=True).clip(min=SMALLEST)
        return (scores - scores.mean(axis=1, keepdims=True)) / deviations

    def search(
        self, queries: Sequence[Tensor], documents: Sequence[Tensor], frame_seconds: float
    ) -> list[list[dict[str, Any]]]:
        """Return for every document, of every query, the "score", the "cost" of the match, its "start" and "end".

        Features are normalised over all queries and documents, and scores per query over documents, as on a split. A
        single document has nothing to be compared with: its scores are None, and the cost (0 = identical, 1 = nothing
        alike) is all there is.
        """
        frames = standardized([*queries, *documents])
        queries, documents = frames[: len(queries)], frames[len(queries) :]
        costs, starts, ends = best_matches(queries, documents)
        scores = self._normalised(costs, queries)
        return [
            [
                {
                    "score": round(float(scores[query, document]), 6) + 0.0 if len(documents) > 1 else None,
                    "cost": round(float(costs[query, document]), 6),
                    "start": round(int(starts[query, document]) * frame_seconds, 3),
                    "end": round(int(ends[query, document]) * frame_seconds, 3),
                }
                for query in range(len(queries))
            ]
            for document in range(len(documents))
        ]


def standardized(features: Sequence[Tensor]) -> list[Tensor]:
    """Return features (T, D) each, float32, of mean 0 and deviation 1 per channel over all frames; float64 sums."""
    count = sum(len(frames) for frames in features)
    mean = torch.stack([frames.double().sum(dim=0) for frames in features]).sum(dim=0) / count
    squares = torch.stack([(frames.double() - mean).square().sum(dim=0) for frames in features]).sum(dim=0)
    deviation = (squares / max(count - 1, 1)).sqrt().clamp(min=SMALLEST)
    return [((frames - mean) / deviation).float() for frames in features]
