"""The trained part of a frozen-feature probe: standardisation, layer mix and the task's head."""

import torch
from torch import Tensor, nn

from speechssl.interfaces import DownstreamTask
from speechssl.nn.layer_mix import LayerMix

CONSTANT = 1e-5  # a channel that varies less than this (or than this share of its mean) is rounding noise


class Standardize(nn.Module):
    """Fixed affine map per layer and channel, which leaves a linear probe linear.

    Channels that do not vary on the train split become 0, so that rounding noise is not blown up to features.

    Args:
        mean: (L + 1, D) of the train split.
        std: (L + 1, D) of the train split.
    """

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        varies = std > CONSTANT * mean.abs().clamp(min=1.0)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("scale", torch.where(varies, 1.0 / std.clamp(min=1e-12), 0.0))

    def forward(self, states: Tensor) -> Tensor:
        """Map (..., L + 1, D)."""
        return (states - self.mean) * self.scale


class ProbeHead(nn.Module):
    """Layer mix and head: hidden states (B, T, L + 1, D) to the outputs of a task."""

    def __init__(self, num_states: int, head: nn.Module):
        super().__init__()
        self.mix = LayerMix(num_states)
        self.head = head

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.mix(states), lengths)


def build_head(task: DownstreamTask, num_states: int, hidden_size: int, downsample_rate: int, seed: int) -> ProbeHead:
    """Return a newly initialised head, a function of the seed alone; global generators stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ProbeHead(num_states, task.head(hidden_size, downsample_rate))
