"""SUPERB's recognition head (Yang et al., 2021): Linear, bidirectional LSTMs, Linear."""

import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.nn.bilstm import BidirectionalLstm
from speechssl.nn.padding import lengths_to_mask
from speechssl.nn.pooling import normalised


class CtcHead(nn.Module):
    """Symbol scores (B, T', V) from features (B, T, D).

    Args:
        hidden_size: D of the features.
        num_symbols: V, the blank included.
        projection_size: width between the features and the first LSTM.
        lstm_size: width of each LSTM direction.
        num_layers: LSTM layers.
        dropout: after every LSTM layer.
        stack: neighbouring frames joined into one before the projection; T' = ceil(T / stack).
        augment: module called as augment(features, lengths) on the features before the projection, or None.
        normalise: bring every channel of every utterance to mean 0 and deviation 1 before all else (not SUPERB's; it
            learns in far fewer steps where channels differ in size).
    """

    def __init__(
        self,
        hidden_size: int,
        num_symbols: int,
        projection_size: int = 1024,
        lstm_size: int = 1024,
        num_layers: int = 2,
        dropout: float = 0.2,
        stack: int = 1,
        augment: nn.Module | None = None,
        normalise: bool = False,
    ):
        super().__init__()
        self.stack, self.augment, self.normalise = stack, augment, normalise
        self.projection = nn.Linear(hidden_size * stack, projection_size)
        self.lstm = BidirectionalLstm(projection_size, lstm_size, num_layers, dropout)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * lstm_size, num_symbols)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores before the softmax (B, T', V) and their valid lengths (B,)."""
        if self.normalise:
            features = normalised(features, lengths)
        if self.augment is not None:
            features = self.augment(features, lengths)
        features, lengths = stack_frames(features, lengths, self.stack)
        output = self.lstm(self.projection(features), lengths)
        return self.classifier(self.dropout(output)), lengths


def stack_frames(features: Tensor, lengths: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Join `count` frames: (B, T, D) to (B, ceil(T / count), count * D), zeros after the last one."""
    if count == 1:
        return features, lengths
    B, T, D = features.shape
    masked = features.masked_fill(~lengths_to_mask(lengths, T)[..., None], 0.0)
    padded = F.pad(masked, (0, 0, 0, -T % count))
    return padded.reshape(B, -1, count * D), (lengths + count - 1) // count
