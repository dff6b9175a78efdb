"""The classifier that SSAST fine-tunes with (Gong et al., 2022, https://arxiv.org/abs/2110.09784)."""

from torch import Tensor, nn

from speechssl.nn.pooling import masked_mean


class MeanLinear(nn.Module):
    """Class scores of whole utterances: mean over valid frames, LayerNorm, Linear.

    Args:
        hidden_size: D of the features.
        num_classes: C.
    """

    def __init__(self, hidden_size: int, num_classes: int):
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size, eps=1e-5)
        self.classifier = nn.Linear(hidden_size, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with (B,) valid frames to logits (B, C); the lengths are handed through."""
        return self.classifier(self.norm(masked_mean(features, lengths))), lengths
