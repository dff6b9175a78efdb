"""Additive-margin softmax of cosines (Wang et al., 2018, https://arxiv.org/abs/1801.05599).

Scale 30 and margin 0.4 are SUPERB's. As in s3prl, but over all classes at once and through log-sum-exp, so that no
exponential overflows in half precision.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def am_softmax_loss(cosines: Tensor, target: Tensor, scale: float = 30.0, margin: float = 0.4) -> Tensor:
    """Return the mean cross entropy of scaled cosines of which that of the right class is lowered by the margin.

    Args:
        cosines: (B, C) between an embedding and the direction of each class.
        target: (B,) classes.
        scale: factor of the cosines.
        margin: what the right class has to be ahead by.
    """
    right = torch.arange(cosines.shape[-1], device=cosines.device) == target[:, None]
    return F.cross_entropy(scale * (cosines.float() - margin * right), target)
