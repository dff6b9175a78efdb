"""Classifiers of the mean over time, which audio models fine-tune with.

With a LayerNorm it is that of SSAST (Gong et al., 2022, https://arxiv.org/abs/2110.09784), without one that of BEATs
(Chen et al., 2023, https://arxiv.org/abs/2212.09058): the mean of the scores of all patches.
"""

from torch import Tensor, nn

from speechssl.nn.pooling import masked_mean

INITIAL_STD = 0.02  # of BEATs' weights; with a LayerNorm they are PyTorch's


class MeanLinear(nn.Module):
    """Class scores of whole utterances: mean over valid frames, LayerNorm if wanted, Linear.

    Args:
        hidden_size: D of the features.
        num_classes: C.
        norm: whether there is a LayerNorm; without one the scores begin close to 0.
    """

    def __init__(self, hidden_size: int, num_classes: int, norm: bool = True):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=1e-5) if norm else None
        self.classifier = nn.Linear(hidden_size, num_classes)
        if not norm:
            nn.init.normal_(self.classifier.weight, std=INITIAL_STD)
            nn.init.zeros_(self.classifier.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with (B,) valid frames to logits (B, C); the lengths are handed through."""
        mean = masked_mean(features, lengths)
        return self.classifier(mean if self.norm is None else self.norm(mean)), lengths
