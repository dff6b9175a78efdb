"""Feature normalisation: the settings, and mean and variance over time per utterance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from speechssl.errors import UserError, nearest

NORMALIZATIONS = ("none", "mean", "utterance", "corpus", "fixed")
EPSILON = 1e-10  # added to the standard deviation, not under the root, as the published models were trained


@dataclass(frozen=True)
class Normalization:
    """How features are normalised.

    Args:
        kind: "none"; "mean" subtracts each utterance's mean over time; "utterance" also divides by its
            unbiased std; "corpus" and "fixed" compute (x - mean) / (std_factor * std), "corpus" per channel
            with statistics of the training data, "fixed" with two numbers.
        mean, std: the numbers of "fixed".
        std_factor: SSAST and BEATs divide by 2 std.
    """

    kind: str
    mean: float | None = None
    std: float | None = None
    std_factor: float = 1.0

    def __post_init__(self) -> None:
        kind, numbers = self.kind, (self.mean, self.std)
        if kind not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS) + nearest(kind, NORMALIZATIONS)
            raise UserError(f"unknown normalization {kind!r}; known: {known}")
        if kind == "fixed" and (None in numbers or self.std <= 0):
            raise UserError(f"normalization='fixed' needs mean and a positive std, found {numbers}")
        if kind != "fixed" and numbers != (None, None):
            raise UserError(f"mean and std belong to normalization='fixed', found normalization={kind!r}")
        if self.std_factor <= 0:
            raise UserError(f"std_factor must be positive, found {self.std_factor}")


def normalize_utterances(features: Tensor, lengths: Tensor, variance: bool = True) -> Tensor:
    """Return (B, T, F) features with mean 0 and unbiased std 1 over each utterance's valid frames, per
    channel.

    Sums run over the difference to the first frame: a channel that never changes (digital silence, an empty
    filter) comes out as exact zeros instead of amplified rounding errors. Padding frames are left for the
    caller to zero.

    Args:
        features: (B, T, F).
        lengths: (B,) valid frames.
        variance: False subtracts the mean only.
    """
    valid = (torch.arange(features.shape[1], device=features.device) < lengths[:, None])[..., None]
    count = lengths.view(-1, 1, 1).to(features.dtype)
    shifted = (features - features[:, :1]).masked_fill(~valid, 0)
    centred = shifted - shifted.sum(1, keepdim=True) / count.clamp(min=1)
    if not variance:
        return centred
    squares = centred.square().masked_fill(~valid, 0).sum(1, keepdim=True)
    # The clamp keeps the gradient of the root finite where a channel is constant; it is far below the
    # epsilon.
    std = (squares / (count - 1).clamp(min=1)).clamp(min=1e-30).sqrt()
    return centred / (std + EPSILON)


def normalize_utterances_(features: Tensor, lengths: Tensor, variance: bool = True) -> Tensor:
    """Do the same in place, clip by clip: faster on a CPU, where a clip fits into the cache; no gradient."""
    for clip, length in zip(features, lengths.tolist(), strict=True):
        valid = clip[:length]
        valid.sub_(valid[:1].clone())
        valid.sub_(valid.mean(0))
        if variance:  # torch.var_mean over the first axis takes ten times as long
            squares = torch.mul(valid, valid).sum(0)
            valid.div_(squares.div_(length - 1).sqrt_().add_(EPSILON))
    return features
