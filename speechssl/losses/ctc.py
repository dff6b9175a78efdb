"""Connectionist temporal classification (Graves et al., 2006), averaged as SUPERB does."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def ctc_loss(logits: Tensor, lengths: Tensor, targets: Sequence[Tensor], blank: int = 0) -> Tensor:
    """Return the mean over utterances of the negative log likelihood divided by the target length.

    An utterance with fewer frames than its target needs has no path; it counts 0 and gives no gradient.

    Args:
        logits: (B, T, V) before the softmax.
        lengths: (B,) valid frames.
        targets: B tensors of symbol indices, none of them the blank.
        blank: index of the blank symbol.
    """
    sizes = torch.tensor([len(target) for target in targets], device=logits.device)
    joined = torch.cat(list(targets)).to(logits.device)
    log_probabilities = logits.float().log_softmax(dim=-1).transpose(0, 1)
    return F.ctc_loss(log_probabilities, joined, lengths, sizes, blank=blank, zero_infinity=True)


def ctc_objective(logits: Tensor, lengths: Tensor, targets: Sequence[Tensor], blank: int = 0) -> dict[str, Tensor]:
    """Return "loss", and as "too_short" the share of utterances with fewer frames than their target needs.

    The arguments are those of `ctc_loss`. A target needs a frame per symbol, and one between two equal symbols.
    """
    needed = torch.tensor([len(row) + int((row[1:] == row[:-1]).sum()) for row in targets], device=lengths.device)
    too_short = (lengths < needed).float().mean()
    return {"loss": ctc_loss(logits, lengths, targets, blank), "too_short": too_short.detach()}
