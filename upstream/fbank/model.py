"""SUPERB's FBANK baseline as an upstream: 80 log-mel energies with two rounds of deltas, normalised.

Yang et al., 2021, https://arxiv.org/abs/2105.01051; the values of s3prl's `fbank` upstream. One hidden state,
no layers, no parameters. Differs from s3prl: very short audio is zero-padded to 50 ms instead of failing.
"""

from torch import Tensor

from speechssl.audio import KaldiFbank
from speechssl.interfaces import Features, Upstream


class Fbank(Upstream):
    """Kaldi filter banks, their deltas, and mean 0 and variance 1 over each utterance.

    Args:
        num_mels: filters F.
        deltas: rounds of deltas; the hidden size is num_mels * (deltas + 1).
    """

    num_layers = 0

    def __init__(self, num_mels: int = 80, deltas: int = 2) -> None:
        super().__init__()
        self.frontend = KaldiFbank(num_mels, deltas=deltas, normalization="utterance")
        self.hidden_size = self.frontend.num_features
        self.downsample_rate = self.frontend.hop_samples

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        features, frames = self.frontend(waveforms, lengths)
        return Features([features], frames)
