"""The model that is fine-tuned: an upstream with a head on its last hidden state, or on a learned mix of all."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Upstream
from speechssl.nn.layer_mix import LayerMix
from speechssl.nn.mean_linear import MeanLinear

Augment = Callable[[Tensor, Tensor], Tensor]


class Head(nn.Module):
    """Hidden states to the outputs of a task.

    Args:
        num_states: L + 1, of which a mix is learned; 0 takes the last one.
        head: features (B, T, D) and lengths (B,) to outputs and their lengths.
    """

    def __init__(self, num_states: int, head: nn.Module):
        super().__init__()
        self.mix = LayerMix(num_states) if num_states else None
        self.head = head

    @property
    def mean_classifier(self) -> nn.Linear | None:
        """The linear map from the mean of the last hidden state to class scores, where the head is no more than it."""
        plain = self.mix is None and isinstance(self.head, MeanLinear) and self.head.norm is None
        return self.head.classifier if plain else None

    def forward(self, hidden_states: list[Tensor], lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map the list of (B, T, D)."""
        mixed = hidden_states[-1] if self.mix is None else self.mix(torch.stack(hidden_states, dim=2))
        return self.head(mixed, lengths)


class FinetunedModel(nn.Module):
    """Waveforms to the outputs of a task."""

    def __init__(self, upstream: Upstream, head: Head):
        super().__init__()
        self.upstream, self.head = upstream, head

    def forward(self, waveforms: Tensor, lengths: Tensor, augment: Augment | None = None) -> tuple[Tensor, Tensor]:
        """Map (B, S) waveforms with (B,) valid samples.

        Args:
            waveforms: in [-1, 1].
            lengths: samples.
            augment: applied to the normalised spectrogram (B, T, F) with (B,) valid frames, or None.
        """
        self.upstream.spectrogram_augment = augment
        try:
            states, frames = self.upstream(waveforms, lengths)
        finally:
            self.upstream.spectrogram_augment = None
        return self.head(states, frames)


def build_model(upstream: Upstream, task: DownstreamTask, *, layers: str, head: str, seed: int) -> FinetunedModel:
    """Return a trainable copy of an upstream with a newly initialised head, a function of the seed alone.

    Args:
        upstream: stays as it is.
        task: gives the head, or the number of classes.
        layers: "last" or "mix".
        head: "task", "linear" or "mean" (see `MeanLinear`, with and without its LayerNorm).
        seed: of the head.
    """
    if head != "task" and not hasattr(task, "classes"):
        raise UserError(f"finetuning.head={head} needs a task with classes, {task.name} has none; use head=task")
    own = copy.deepcopy(upstream).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if head == "task":
            inner: nn.Module = task.head(upstream.hidden_size, upstream.downsample_rate)
        else:
            inner = MeanLinear(upstream.hidden_size, len(task.classes), norm=head == "linear")
    return FinetunedModel(own, Head(upstream.num_layers + 1 if layers == "mix" else 0, inner))
