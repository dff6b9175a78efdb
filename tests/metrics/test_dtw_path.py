"""Ends of the best path: costs as without them, and places as a slow dynamic programme finds them."""

import pytest
import torch

from speechssl.errors import UserError
from speechssl.metrics.dtw import frame_distances, matching_costs
from speechssl.metrics.dtw_path import best_matches, path_ends


def sequences(lengths: list[int], seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, 8, generator=generator) for length in lengths]


def slow_path(distances: torch.Tensor) -> tuple[float, int, int]:
    """Cost, first and one past the last document frame of the best path through (Tq, Td), traced back."""
    rows, columns = distances.shape
    best = [[(float(distances[0, j]), j) for j in range(columns)]]
    for i in range(1, rows):
        line = []
        for j in range(columns):
            cost, start = min((best[-1][k] for k in (j, j - 1, j - 2) if k >= 0), key=lambda one: one[0])
            line.append((cost + float(distances[i, j]), start))
        best.append(line)
    end = min(range(columns), key=lambda j: best[-1][j][0])
    return best[-1][end][0] / rows, best[-1][end][1], end + 1


def test_costs_and_ends() -> None:
    queries, documents = sequences([5, 9, 14], 0), sequences([30, 12, 51, 3], 1)
    costs, starts, ends = best_matches(queries, documents)
    torch.testing.assert_close(costs, matching_costs(queries, documents))
    for q, query in enumerate(queries):
        for d, document in enumerate(documents):
            unit = [torch.nn.functional.normalize(frames, dim=-1)[None] for frames in (query, document)]
            cost, start, end = slow_path(frame_distances(*unit)[:, 0, 0])
            assert float(costs[q, d]) == pytest.approx(cost, abs=1e-5)
            assert (int(starts[q, d]), int(ends[q, d])) == (start, end)


def test_a_query_is_found_where_it_was_put() -> None:
    (query,), (document,) = sequences([12], 2), sequences([60], 3)
    document[20:32] = query
    _, starts, ends = best_matches([query], [document])
    assert (int(starts), int(ends)) == (20, 32)


def test_padding_of_short_queries_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    distances = torch.rand(10, 2, 25, generator=generator)
    together = path_ends(distances, [4, 10])
    alone = path_ends(distances[:4, :1], [4])
    assert all(torch.equal(a[:1], b) for a, b in zip(together, alone, strict=True))


def test_empty_audio_is_refused() -> None:
    with pytest.raises(UserError, match="at least one frame"):
        best_matches([torch.zeros(0, 8)], sequences([5], 0))
