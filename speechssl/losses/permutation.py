"""Binary cross entropy of speaker activity under the best assignment of outputs to speakers.

Permutation-invariant training (Yu et al., 2017, https://arxiv.org/abs/1607.00325) as end-to-end diarization has it
(Fujita et al., 2019, https://arxiv.org/abs/1909.05952) and SUPERB trains. The error of every (output, speaker) pair is
computed once; an assignment only adds some of them up.
"""

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor


def permutation_invariant_bce(logits: Tensor, targets: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over valid frames and speakers of the cross entropy, each row under its best assignment.

    Args:
        logits: (B, T, K) of K outputs.
        targets: (B, T, K) zeros and ones of K speakers, in any order.
        valid: (B, T) bool.
    """
    count = logits.shape[-1]
    logits = logits.float().masked_fill(~valid[..., None], 0.0)
    targets = targets.to(logits.dtype).masked_fill(~valid[..., None], 0.0)
    silent = (F.softplus(logits) * valid[..., None]).sum(dim=1)  # (B, K): what each output costs if nobody speaks
    pairs = silent[:, :, None] - logits.transpose(1, 2) @ targets  # (B, outputs, speakers)
    orders = torch.tensor(list(permutations(range(count))), device=logits.device)
    costs = pairs[:, torch.arange(count, device=logits.device), orders].sum(dim=-1)  # (B, K!)
    return costs.amin(dim=-1).sum() / (count * valid.sum()).clamp(min=1)
