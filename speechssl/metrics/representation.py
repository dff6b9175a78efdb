"""What can be said of a representation without labels: how many directions it uses, and how evenly.

RankMe (Garrido et al., 2023, https://arxiv.org/abs/2210.02885) as published, not centred, and centred as well, since
hidden states have large common offsets. Uniformity (Wang and Isola, 2020, https://arxiv.org/abs/2005.10242) and the
mean cosine of unit vectors tell how much all of them point the same way. They compare checkpoints of one method, not
methods with each other.
"""

import torch
from torch import Tensor

from speechssl.metrics.effective_rank import effective_rank


def representation(vectors: Tensor) -> dict[str, float]:
    """Return label-free measures of vectors (N, D), N > 1, such as means over time of N utterances.

    - `rankme`, `rankme_centred`: effective rank, between 1 and min(N, D), without and with the mean taken off;
    - `std`: mean over channels of the standard deviation of unit vectors, times sqrt(D): 1 = spread over all
      directions, 0 = collapsed;
    - `cosine`: mean cosine of two different vectors;
    - `uniformity`: log of the mean of exp(-2 squared distance) of two different unit vectors; lower is more uniform.
    """
    wide = vectors.double()
    N, D = wide.shape
    unit = torch.nn.functional.normalize(wide, dim=-1)
    cosines = (unit @ unit.T)[~torch.eye(N, dtype=torch.bool, device=wide.device)]
    return {
        "rankme": effective_rank(wide),
        "rankme_centred": effective_rank(wide - wide.mean(dim=0)),
        "std": float(unit.std(dim=0, correction=0).mean() * D**0.5),
        "cosine": float(cosines.mean()),
        "uniformity": float(torch.exp(-2 * (2 - 2 * cosines)).mean().log()),
    }
