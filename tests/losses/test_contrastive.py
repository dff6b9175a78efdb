"""InfoNCE inside a clip: both directions against cross entropy, and clips with fewer patches."""

import pytest
import torch
import torch.nn.functional as F

from speechssl.errors import UserError
from speechssl.losses.contrastive import clip_info_nce


def example(B: int = 2, n: int = 6, P: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(B, n, P, generator=generator) for _ in range(2)]
    return *made, torch.ones(B, n, dtype=torch.bool)


def test_directions_are_cross_entropies_of_rows_and_columns() -> None:
    predictions, targets, valid = example()
    scores = targets @ predictions.transpose(1, 2)
    label = torch.arange(6).repeat(2)
    code, _ = clip_info_nce(predictions, targets, valid, "code")
    paper, _ = clip_info_nce(predictions, targets, valid, "paper")
    torch.testing.assert_close(code, F.cross_entropy(scores.flatten(0, 1), label))
    torch.testing.assert_close(paper, F.cross_entropy(scores.transpose(1, 2).flatten(0, 1), label))
    assert not torch.isclose(code, paper)
    same = [clip_info_nce(targets, targets, valid, direction)[0] for direction in ("code", "paper")]
    torch.testing.assert_close(*same)  # symmetric scores


def test_accuracy_mixes_both_directions() -> None:
    predictions, targets, valid = example()
    shares = (targets @ predictions.transpose(1, 2)).softmax(dim=2)  # over predictions
    right = shares.argmax(dim=1) == torch.arange(6)  # over targets
    assert float(clip_info_nce(predictions, targets, valid)[1]) == pytest.approx(float(right.float().mean()))


def test_perfect_predictions() -> None:
    _, targets, valid = example()
    loss, accuracy = clip_info_nce(100 * F.normalize(targets, dim=2), F.normalize(targets, dim=2), valid)
    assert float(loss) < 1e-3
    assert float(accuracy) == 1


def test_fewer_patches_are_a_smaller_clip() -> None:
    predictions, targets, valid = example()
    valid[1, 4:] = False
    predictions = predictions.requires_grad_()
    for direction in ("code", "paper"):
        loss, accuracy = clip_info_nce(predictions, targets, valid, direction)
        parts = [
            clip_info_nce(predictions[i : i + 1, :n], targets[i : i + 1, :n], valid[i : i + 1, :n], direction)
            for i, n in enumerate((6, 4))
        ]
        torch.testing.assert_close(loss, (6 * parts[0][0] + 4 * parts[1][0]) / 10)
        torch.testing.assert_close(accuracy, (6 * parts[0][1] + 4 * parts[1][1]) / 10)
        (gradient,) = torch.autograd.grad(loss, predictions)
        assert gradient.isfinite().all()
        assert not gradient[1, 4:].any()


def test_nothing_valid_is_zero() -> None:
    predictions, targets, valid = example()
    loss, accuracy = clip_info_nce(predictions, targets, torch.zeros_like(valid))
    assert float(loss) == float(accuracy) == 0


def test_unknown_direction() -> None:
    with pytest.raises(UserError, match="code, paper"):
        clip_info_nce(*example(), "rows")
