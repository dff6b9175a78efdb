"""Losses of class scores against soft labels, such as mixup makes: rows of a target need not hold zeros and ones."""

import torch.nn.functional as F
from torch import Tensor


def soft_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Return the mean over rows of -sum(target * log softmax(scores)); rows of zeros have no class and do not count."""
    losses = -(target * scores.float().log_softmax(dim=-1)).sum(dim=-1)
    return losses.sum() / (target.sum(dim=-1) > 0).sum().clamp(min=1)


def soft_binary_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """Return the mean over all cells (B, C) of the binary cross entropy of sigmoid(scores)."""
    return F.binary_cross_entropy_with_logits(scores.float(), target)
