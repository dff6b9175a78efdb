from typing import Any

import pytest
import torch
import torch.nn.functional as F

from speechssl.losses.am_softmax import am_softmax_loss


@pytest.mark.parametrize(("cosines", "expected"), [([0.8, 0.1], 1.2340e-4), ([0.5, 0.2], 3.04859)])
def test_hand_computed(cosines: list[float], expected: float) -> None:
    found = am_softmax_loss(torch.tensor([cosines]), torch.tensor([0]))
    assert float(found) == pytest.approx(expected, abs=1e-7, rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    cosines = torch.tensor([[-1.0, 1.0], [1.0, -1.0]], dtype=torch.float16)
    assert float(am_softmax_loss(cosines, torch.tensor([0, 0]))) == pytest.approx((72 + 0) / 2, rel=1e-3)


def test_margin_and_scale_are_what_they_say() -> None:
    cosines = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([0, 1, 2, 3, 0])
    torch.testing.assert_close(
        am_softmax_loss(cosines, target, scale=7.0, margin=0.0), F.cross_entropy(7 * cosines, target)
    )
    assert am_softmax_loss(cosines, target, margin=0.5) > am_softmax_loss(cosines, target, margin=0.4)


def test_equals_s3prls() -> None:
    s3prl: Any = pytest.importorskip("s3prl.downstream.sv_voxceleb1.model", exc_type=ImportError)
    torch.manual_seed(0)
    theirs = s3prl.AMSoftmaxLoss(16, 5)
    embeddings, target = torch.randn(9, 16), torch.arange(9) % 5
    cosines = F.normalize(embeddings, dim=1) @ F.normalize(theirs.W, dim=0)
    torch.testing.assert_close(am_softmax_loss(cosines, target), theirs(embeddings, target))
