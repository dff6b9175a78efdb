"""Scale-invariant signal-to-distortion ratio in dB (Le Roux et al., 2019, https://arxiv.org/abs/1811.02508).

Means are taken out first. Without distortion, or with a silent reference, the value is finite.
"""

from itertools import permutations

import torch
from torch import Tensor

SMALLEST = 1e-8  # added to both energies


def si_sdr(estimate: Tensor, reference: Tensor) -> Tensor:
    """Return (...) ratios of estimates (..., S) to references (..., S)."""
    estimate = estimate - estimate.mean(dim=-1, keepdim=True)
    reference = reference - reference.mean(dim=-1, keepdim=True)
    energy = reference.square().sum(dim=-1, keepdim=True)
    target = (estimate * reference).sum(dim=-1, keepdim=True) / (energy + SMALLEST) * reference
    distortion = (estimate - target).square().sum(dim=-1)
    return 10.0 * torch.log10((target.square().sum(dim=-1) + SMALLEST) / (distortion + SMALLEST))


def best_si_sdr(estimates: Tensor, references: Tensor) -> Tensor:
    """Return (B,) mean ratios of estimates (B, K, S) to references (B, K, S) under the best assignment."""
    pairs = si_sdr(estimates[:, :, None], references[:, None])  # (B, estimates, references)
    count = estimates.shape[1]
    orders = torch.tensor(list(permutations(range(count))), device=pairs.device)
    return pairs[:, torch.arange(count, device=pairs.device), orders].mean(dim=-1).amax(dim=-1)
