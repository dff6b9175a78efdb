"""SUPERB's utterance-level head (Yang et al., 2021): Linear, mean over valid frames, Linear.

There is no non-linearity anywhere, so the head commutes with the mean over time: trained on utterance means
it is the same function as on frames. With `pooling="mean_std"` the two linear layers read mean and standard deviation
over time of every channel; deviations do not commute with anything, so they are taken first.
"""

from torch import Tensor, nn

from speechssl.nn.pooling import check_pooling, masked_mean, masked_mean_std


class UtteranceHead(nn.Module):
    """Class scores of whole utterances.

    Args:
        hidden_size: D of the features.
        num_classes: C.
        projection_size: width between the two linear layers; 0 leaves the first one out.
        pooling: "mean" or "mean_std".
    """

    stackable = True

    def __init__(self, hidden_size: int, num_classes: int, projection_size: int = 256, pooling: str = "mean"):
        super().__init__()
        self.hidden_size, self.pooling = hidden_size, check_pooling(pooling)
        size = hidden_size if pooling == "mean" else 2 * hidden_size
        self.projection = nn.Linear(size, projection_size) if projection_size else nn.Identity()
        self.classifier = nn.Linear(projection_size or size, num_classes)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map features (B, T, D) with (B,) valid frames to logits (B, C); the lengths are handed through.

        Where mean and deviation have been taken already, features are (B, 1, 2 D).
        """
        if self.pooling == "mean":
            return self.classifier(masked_mean(self.projection(features), lengths)), lengths
        taken = features.shape[-1] == 2 * self.hidden_size
        pooled = features[:, 0] if taken else masked_mean_std(features, lengths)
        return self.classifier(self.projection(pooled)), lengths
