"""How well a codebook is used: codes in use, entropy and perplexity of the labels.

Perplexity exp(H) is the number of equally frequent codes with the same entropy. A codebook that collapses keeps few
codes long before its training loss shows it.
"""

import torch
from torch import Tensor


def count_codes(codes: Tensor, num_codes: int) -> Tensor:
    """Return how often each code occurs (V,) int64; negative entries are padding. Nothing waits for the device."""
    flat = codes.flatten().long()
    slots = torch.where(flat < 0, num_codes, flat)
    counts = torch.zeros(num_codes + 1, dtype=torch.long, device=codes.device)
    return counts.index_add_(0, slots, torch.ones_like(slots))[:num_codes]


def entropy(counts: Tensor) -> Tensor:
    """Return the entropy (scalar, nats) of codes that occur `counts` (V,) times; 0 for none at all."""
    share = counts.double() / counts.double().sum().clamp(min=1)
    return torch.special.entr(share).sum()


def perplexity(counts: Tensor) -> Tensor:
    """Return exp(entropy), between 1 and V."""
    return entropy(counts).exp()


class CodebookUsage:
    """Accumulates labels of a corpus.

    Args:
        num_codes: V.
    """

    def __init__(self, num_codes: int) -> None:
        self.counts = torch.zeros(num_codes, dtype=torch.long)

    def update(self, codes: Tensor) -> None:
        """Add labels of any shape; -1 is padding."""
        self.counts += count_codes(codes, len(self.counts)).cpu()

    def compute(self) -> dict[str, float]:
        """Return the number of labels and of codes in use, the share of codes never used, and how even they are.

        "top" is the share of the most frequent code.
        """
        total, used = int(self.counts.sum()), int((self.counts > 0).sum())
        bits = float(entropy(self.counts)) / 0.6931471805599453
        return {
            "labels": total,
            "used": used,
            "dead": 1 - used / len(self.counts),
            "entropy_bits": bits,
            "perplexity": 2**bits,
            "top": int(self.counts.max()) / max(1, total),
        }
