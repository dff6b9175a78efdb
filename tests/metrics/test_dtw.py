import math

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.metrics import dtw
from speechssl.metrics.dtw import matching_costs


def by_hand(query: Tensor, document: Tensor) -> float:
    """Walk through one pair as the definition has it."""
    rows = []
    for frame in query.double().tolist():
        row = []
        for other in document.double().tolist():
            dot = sum(a * b for a, b in zip(frame, other, strict=True))
            row.append(math.exp(1.0 - dot / (math.hypot(*frame) * math.hypot(*other))) - 1.0)
        low, high = min(row), max(row)
        rows.append([(value - low) / max(high - low, 1e-9) for value in row])
    so_far = rows[0]
    for row in rows[1:]:
        so_far = [row[j] + min(so_far[max(0, j - 2) : j + 1]) for j in range(len(row))]
    return min(so_far) / len(rows)


def frames(count: int, seed: int, size: int = 6) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


QUERIES = [frames(n, i) for i, n in enumerate([7, 1, 12, 5, 7])]
DOCUMENTS = [frames(n, 100 + i) for i, n in enumerate([20, 3, 1, 31, 12, 8])]


@pytest.mark.parametrize("cells", [1, 100, 2000, 10**6])
def test_equals_the_definition_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(dtw, "CELLS_ELSEWHERE", cells)
    expected = [[by_hand(query, document) for document in DOCUMENTS] for query in QUERIES]
    np.testing.assert_allclose(matching_costs(QUERIES, DOCUMENTS).numpy(), expected, atol=1e-5)


def test_a_query_is_found_at_half_and_at_double_speed() -> None:
    query = frames(10, 0)
    hidden = [torch.cat([frames(9, 1), copy, frames(11, 2)]) for copy in (query, query.repeat_interleave(2, 0))]
    faster = torch.cat([frames(9, 1), query[::2], frames(11, 2)])
    exact, slow, fast, nothing = matching_costs([query], [*hidden, faster, frames(30, 3)])[0].tolist()
    assert exact == pytest.approx(0, abs=1e-5)
    assert slow == pytest.approx(0, abs=1e-5)
    assert fast < nothing
    assert 0.0 < nothing < 1.0


def test_loudness_of_frames_does_not_matter() -> None:
    louder = [3.0 * query for query in QUERIES]
    torch.testing.assert_close(matching_costs(louder, DOCUMENTS), matching_costs(QUERIES, DOCUMENTS))


def test_frames_of_zeros_are_finite() -> None:
    assert bool(matching_costs([torch.zeros(3, 4)], [torch.zeros(5, 4), frames(5, 0, 4)]).isfinite().all())


def test_an_empty_document_is_refused() -> None:
    with pytest.raises(UserError, match="at least one frame"):
        matching_costs(QUERIES, [torch.zeros(0, 6)])
