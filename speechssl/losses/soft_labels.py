"""Losses of class scores against soft labels, such as mixup makes: rows of a target need not hold zeros and ones."""

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(scores: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the mean over rows of -sum(target * log softmax(scores)); rows of zeros have no class and do not count.

    Args:
        scores: (B, C).
        target: (B, C).
        smoothing: share of a row's mass that is spread evenly over all classes (Szegedy et al., 2016,
            https://arxiv.org/abs/1512.00567).
    """
    mass = target.sum(dim=-1, keepdim=True)
    target = (1.0 - smoothing) * target + smoothing * mass / target.shape[-1]
    losses = -(target * scores.float().log_softmax(dim=-1)).sum(dim=-1)
    return losses.sum() / (mass > 0).sum().clamp(min=1)


def soft_binary_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Return the mean over all cells (B, C) of the binary cross entropy of sigmoid(scores)."""
    return F.binary_cross_entropy_with_logits(scores.float(), target)
