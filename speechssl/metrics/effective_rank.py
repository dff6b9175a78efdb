"""Effective rank of representations (RankMe; Garrido et al., 2023, https://arxiv.org/abs/2210.02885)."""

import torch
from torch import Tensor

EPSILON = 1e-7  # added to the shares, as published


def effective_rank(vectors: Tensor) -> float:
    """Return exp of the entropy of the singular values' shares of vectors (M, D): 1 for a line, at most min(M, D).

    The vectors are taken as they are, not centred, as published.
    """
    values = torch.linalg.svdvals(vectors.double())
    shares = values / values.sum().clamp(min=torch.finfo(torch.float64).tiny) + EPSILON
    return float(torch.exp(-(shares * shares.log()).sum()))
