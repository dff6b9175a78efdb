"""Which of a clip's hidden patches is this one? InfoNCE inside each clip, as SSAST has it.

Gong et al., 2022, https://arxiv.org/abs/2110.09784. For the n hidden patches of a clip, S[i, j] is the dot product of
target i (raw pixels) and prediction j; there is no temperature and no normalisation. The paper (equation 1) looks for
the target of each prediction: softmax over i. The authors' code looks for the prediction of each target: softmax over
j; it made the published models. Both are here, and their accuracy, which mixes the two.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError

DIRECTIONS = ("code", "paper")


def clip_info_nce(
    predictions: Tensor, targets: Tensor, valid: Tensor, direction: str = "code"
) -> tuple[Tensor, Tensor]:
    """Return the loss and the accuracy, both means over all hidden patches of the batch, in float32.

    Args:
        predictions: (B, n, P).
        targets: (B, n, P).
        valid: (B, n) bool; others are neither asked for nor candidates.
        direction: "code" or "paper".

    Returns:
        The loss (0 without any patch), and the share of predictions j for which softmax over j of S, seen as a
        function of i, is largest at i = j.
    """
    if direction not in DIRECTIONS:
        raise UserError(f"nce_direction expects one of {', '.join(DIRECTIONS)}, found {direction!r}")
    with torch.autocast(predictions.device.type, enabled=False):
        scores = targets.float() @ predictions.float().transpose(1, 2)  # (B, targets, predictions)
    n = scores.shape[1]
    asked = scores if direction == "code" else scores.transpose(1, 2)
    asked = asked.masked_fill(~valid[:, None, :], -torch.inf).masked_fill(~valid[:, :, None], 0.0)
    label = torch.arange(n, device=scores.device).expand(len(scores), -1)
    label = torch.where(valid, label, -1)
    loss = F.cross_entropy(asked.reshape(-1, n), label.reshape(-1), ignore_index=-1, reduction="sum")
    count = valid.sum().clamp(min=1)
    with torch.no_grad():
        shares = scores.masked_fill(~valid[:, None, :], -torch.inf).log_softmax(dim=2)
        best = shares.masked_fill(~valid[:, :, None], -torch.inf).nan_to_num(nan=-torch.inf).argmax(dim=1)
        right = ((best == torch.arange(n, device=scores.device)) & valid).sum()
    return loss / count, right / count
