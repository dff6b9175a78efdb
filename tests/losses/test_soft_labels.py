import torch
import torch.nn.functional as F

from speechssl.losses.soft_labels import soft_binary_cross_entropy, soft_cross_entropy

SCORES = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])


def test_hard_labels_give_the_usual_losses() -> None:
    truth = torch.tensor([0, 2])
    hot = torch.eye(3)[truth]
    torch.testing.assert_close(soft_cross_entropy(SCORES, hot), F.cross_entropy(SCORES, truth))
    expected = -(hot * SCORES.sigmoid().log() + (1 - hot) * (1 - SCORES.sigmoid()).log()).mean()
    torch.testing.assert_close(soft_binary_cross_entropy(SCORES, hot), expected)


def test_mixed_labels_mix_the_losses() -> None:
    one, other = torch.eye(3)[[0, 2]], torch.eye(3)[[1, 2]]
    for loss in (soft_cross_entropy, soft_binary_cross_entropy):
        mixed = loss(SCORES, 0.7 * one + 0.3 * other)
        torch.testing.assert_close(mixed, 0.7 * loss(SCORES, one) + 0.3 * loss(SCORES, other))


def test_smoothing_spreads_a_share_of_the_label() -> None:
    truth = torch.tensor([0, 2])
    expected = F.cross_entropy(SCORES, truth, label_smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(SCORES, torch.eye(3)[truth], 0.1), expected)
    by_hand = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(
        soft_cross_entropy(SCORES, torch.eye(3)[truth], 0.3), soft_cross_entropy(SCORES, by_hand)
    )
    target = torch.eye(3)[[0, 2]] * torch.tensor([[1.0], [0.0]])  # the second row has no class to spread
    one = F.cross_entropy(SCORES[:1], truth[:1], label_smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(SCORES, target, 0.1), one)


def test_rows_without_a_class_do_not_count() -> None:
    target = torch.eye(3)[[0, 2]] * torch.tensor([[1.0], [0.0]])
    torch.testing.assert_close(soft_cross_entropy(SCORES, target), F.cross_entropy(SCORES[:1], torch.tensor([0])))
    assert float(soft_cross_entropy(SCORES, torch.zeros(2, 3))) == 0.0
