"""SUPERB's phone recognition head (Yang et al., 2021): two linear layers on every frame, nothing between them."""

from torch import Tensor, nn

from speechssl.nn.ctc_head import stack_frames


class LinearFrameHead(nn.Module):
    """Symbol scores (B, T', V) from features (B, T, D), T' = ceil(T / stack).

    Args:
        hidden_size: D of the features.
        num_symbols: V, the blank included.
        projection_size: width between the two linear layers.
        stack: neighbouring frames joined into one before the projection.
    """

    stackable = True

    def __init__(self, hidden_size: int, num_symbols: int, projection_size: int = 256, stack: int = 1):
        super().__init__()
        self.stack = stack
        self.projection = nn.Linear(hidden_size * stack, projection_size)
        self.classifier = nn.Linear(projection_size, num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores before the softmax (B, T', V) and their valid lengths (B,)."""
        features, lengths = stack_frames(features, lengths, self.stack)
        return self.classifier(self.projection(features)), lengths
