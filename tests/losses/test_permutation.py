from itertools import permutations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.losses.permutation import permutation_invariant_bce

LOGITS = torch.tensor([[[2.0, -2.0], [2.0, -2.0], [-2.0, 2.0]]])
SPEAKERS = torch.tensor([[[0, 1], [0, 1], [1, 0]]])


def everything(logits: Tensor) -> Tensor:
    return torch.ones(logits.shape[:2], dtype=torch.bool)


def test_hand_computed() -> None:
    found = permutation_invariant_bce(LOGITS, SPEAKERS, everything(LOGITS))
    assert float(found) == pytest.approx(0.126928, abs=1e-6)
    wrong = F.binary_cross_entropy_with_logits(LOGITS, SPEAKERS.float())
    assert float(wrong) == pytest.approx(2.126928, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equals_the_smallest_of_all_assignments(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    logits = 3 * torch.randn(4, 9, count, generator=generator)
    targets = torch.rand(4, 9, count, generator=generator) > 0.5
    lengths = torch.tensor([9, 1, 5, 3])
    expected = 0.0
    for row, truth, n in zip(logits, targets.float(), lengths.tolist(), strict=True):
        costs = [
            F.binary_cross_entropy_with_logits(row[:n], truth[:n, list(order)], reduction="sum")
            for order in permutations(range(count))
        ]
        expected += float(min(costs))
    valid = torch.arange(9) < lengths[:, None]
    found = permutation_invariant_bce(logits, targets, valid)
    assert float(found) == pytest.approx(expected / (count * 18), rel=1e-5)


def test_padding_has_no_say() -> None:
    valid = torch.tensor([[True, True, False]])
    logits = torch.cat([LOGITS[:, :2], torch.full((1, 1, 2), torch.nan)], dim=1).requires_grad_()
    loss = permutation_invariant_bce(logits, SPEAKERS, valid)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(0.126928, abs=1e-6)
    assert logits.grad[0, 2].tolist() == [0, 0]


def test_equals_s3prls() -> None:
    s3prl: Any = pytest.importorskip("s3prl.downstream.diarization.utils", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 2, generator=generator)
    targets = (torch.rand(3, 7, 2, generator=generator) > 0.5).float()
    lengths = torch.tensor([7, 4, 2])
    theirs, _, _ = s3prl.pit_loss(logits, targets, lengths)
    ours = permutation_invariant_bce(logits, targets, torch.arange(7) < lengths[:, None])
    torch.testing.assert_close(ours, theirs)
