"""SUPERB's utterance-level head (Yang et al., 2021): Linear, mean over valid frames, Linear.

There is no non-linearity anywhere, so the head commutes with the mean over time: trained on utterance means
it is the same function as on frames.
"""

from torch import Tensor, nn

from speechssl.nn.pooling import masked_mean


class UtteranceHead(nn.Module):
    """Class scores of whole utterances.

    Args:
        hidden_size: D of the features.
        num_classes: C.
        projection_size: width between the two linear layers.
    """

    def __init__(self, hidden_size: int, num_classes: int, projection_size: int = 256):
        super().__init__()
        self.projection = nn.Linear(hidden_size, projection_size)
        self.classifier = nn.Linear(projection_size, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with (B,) valid frames to logits (B, C); the lengths are handed through."""
        return self.classifier(masked_mean(self.projection(features), lengths)), lengths
