"""SUPERB's diarization head: one LSTM forwards through time, and a linear layer to the speakers."""

import torch
from torch import Tensor, nn

from speechssl.nn.ctc_head import stack_frames
from speechssl.nn.lstm import one_way


class LstmHead(nn.Module):
    """Activity scores (B, T, K) of K speakers from features (B, T, D); padding at the end reaches no valid frame.

    Args:
        hidden_size: D of the features.
        num_speakers: K.
        lstm_size: width of the LSTM.
        num_layers: LSTM layers.
        stack: neighbouring frames joined into one before the LSTM; all of them get its scores.
    """

    def __init__(self, hidden_size: int, num_speakers: int, lstm_size: int = 512, num_layers: int = 1, stack: int = 1):
        super().__init__()
        self.stack = stack
        self.lstm = nn.LSTM(hidden_size * stack, lstm_size, num_layers, batch_first=True)
        self.classifier = nn.Linear(lstm_size, num_speakers)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores before the sigmoid (B, T, K); the lengths are handed through."""
        joined, _ = stack_frames(features, lengths, self.stack)
        scores = self.classifier(self._through_time(joined))
        return scores.repeat_interleave(self.stack, dim=1)[:, : features.shape[1]], lengths

    def _through_time(self, x: Tensor) -> Tensor:
        """Return the outputs (B, T, lstm_size) of the LSTM."""
        if not torch.compiler.is_exporting():
            return self.lstm(x)[0]
        for layer in range(self.lstm.num_layers):  # one by one: see `speechssl.nn.lstm`
            names = (f"{part}_l{layer}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            x = one_way(x, [getattr(self.lstm, name) for name in names])
        return x
