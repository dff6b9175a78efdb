"""Search by example: what is a query, normalisation, and queries that are found in the state that holds them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.downstream.qbe.dataset import relevance
from speechssl.downstream.qbe.task import QueryByExample, standardized
from speechssl.errors import UserError
from speechssl.interfaces import Examples
from speechssl.metrics.dtw import matching_costs


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, ids: list[str], relevant: list):
        self.ids, self.relevant = ids, relevant

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> list:
        return self.relevant if name == "relevant" else [None] * len(self.ids)


def corpus(relevant: dict[str, list[str] | None], left_out: Sequence[str] = ()) -> Any:
    table = Table(list(relevant), list(relevant.values()))
    tables = {"dev": table, "test": table}
    return SimpleNamespace(name="made-up", table=tables.__getitem__, left_out=frozenset(left_out))


QUERIES, DOCUMENTS = 8, 60


def made_up() -> tuple[QueryByExample, Examples, list[Tensor], list[Tensor]]:
    """Return a task, its split, features that hold the queries, and features that do not."""
    generator = torch.Generator().manual_seed(0)
    queries = [torch.randn(int(n), 10, generator=generator) for n in torch.randint(8, 15, (QUERIES,))]
    documents = [torch.randn(40, 10, generator=generator) for _ in range(DOCUMENTS)]
    relevant: dict[str, list[str] | None] = {f"d{i}": None for i in range(DOCUMENTS)}
    for number, query in enumerate(queries):
        held = [number, number + 20]
        relevant[f"q{number}"] = [f"d{i}" for i in held]
        for i in held:
            spoken = query + 0.3 * torch.randn(query.shape, generator=generator)
            documents[i] = torch.cat([documents[i][:15], spoken, documents[i][15:]])
    task = QueryByExample(corpus(relevant))
    features = [7.0 + 3.0 * frames for frames in documents + queries]
    noise = [torch.randn(frames.shape, generator=generator) for frames in features]
    return task, task.dataset("dev"), features, noise


def test_queries_are_found_in_the_state_that_holds_them() -> None:
    task, examples, features, noise = made_up()
    states = {0: noise, 1: features}
    task.check()
    bad, good = task.measure(examples, states.__getitem__, [0, 1])
    assert good.compute()["mtwv"] > 90.0
    assert bad.compute()["mtwv"] < 20.0
    (alone,) = task.measure(examples, states.__getitem__, [1])
    assert alone.compute() == good.compute()
    assert (len(good.records()), good.per_utterance, task.chance()) == (QUERIES * DOCUMENTS, False, 0.0)
    assert (task.monitor, task.mode, task.splits) == ("mtwv", "max", ("dev", "test"))


def test_scale_and_offset_of_channels_do_not_matter() -> None:
    task, examples, features, _ = made_up()
    other = [frames * torch.linspace(0.1, 50, 10) + torch.arange(10) for frames in features]
    first, second = task.measure(examples, {0: features, 1: other}.__getitem__, [0, 1])
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-3)


def test_normalisation_is_over_all_frames() -> None:
    features = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) + 1e4 for n in (5, 9, 2)]
    features = [torch.cat([frames, torch.full((len(frames), 1), 0.25)], dim=1) for frames in features]
    joined = torch.cat(standardized(features))
    torch.testing.assert_close(joined.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(joined.std(dim=0), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_scores_are_normalised_per_query_and_short_ones_do_not_score() -> None:
    task = QueryByExample(corpus({"q": ["d"], "d": None}))
    generator = torch.Generator().manual_seed(0)
    queries = [torch.randn(n, 4, generator=generator) for n in (4, 5, 9)]
    documents = [torch.randn(n, 4, generator=generator) for n in (12, 30, 7, 20)]
    scores = task.scores(queries, documents)
    assert scores[0].tolist() == [0, 0, 0, 0]
    costs = matching_costs(queries, documents)[1:].double().numpy()
    np.testing.assert_allclose(scores[1:], -((costs.T - costs.mean(1)) / costs.std(1)).T, atol=1e-6)


def test_relevance_leaves_out_documents_that_could_not_be_read() -> None:
    assert relevance([["b", "gone"], []], ["a", "b"]).tolist() == [[False, True], [False, False]]


def test_one_unreadable_document_does_not_stop_the_task() -> None:
    QueryByExample(corpus({"q": ["gone", "d"], "d": None}, left_out=["gone"])).check()
    with pytest.raises(UserError, match="no query in dev of made-up is in any document"):
        QueryByExample(corpus({"q": ["gone"], "d": None}, left_out=["gone"])).check()


@pytest.mark.parametrize(
    ("relevant", "message"),
    [
        ({"d": None, "e": None}, "found no queries in dev of made-up"),
        ({"q": ["d"]}, "found no documents in dev of made-up"),
        ({"q": ["e", "d"], "d": None}, "to be found in 1 documents that are not in that split, such as e"),
        ({"q": ["p"], "p": [], "d": None}, "such as p"),
        ({"q": [], "d": None}, "no query in dev of made-up is in any document"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(relevant: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        QueryByExample(corpus(relevant)).check()
