"""Kaldi filter banks as an upstream: 80 log-mel energies with deltas and delta-deltas, not normalised.

The values of s3prl's `fbank_no_cmvn` upstream. SUPERB's FBANK baseline (Yang et al., 2021,
https://arxiv.org/abs/2105.01051) has mean 0 over every utterance, so a linear head that averages over time
sees a constant; this variant keeps the average spectrum, and is what a learned model has to beat on utterance
tasks. One hidden state, no layers, no parameters. Differs from s3prl: audio below 50 ms is zero-padded.
"""

from torch import Tensor

from speechssl.audio import KaldiFbank
from speechssl.interfaces import Features, Upstream


class FbankNoCmvn(Upstream):
    """Kaldi filter banks and their deltas.

    Args:
        num_mels: filters F.
        deltas: rounds of deltas; the hidden size is num_mels * (deltas + 1).
    """

    num_layers = 0

    def __init__(self, num_mels: int = 80, deltas: int = 2) -> None:
        super().__init__()
        self.frontend = KaldiFbank(num_mels, deltas=deltas)
        self.hidden_size = self.frontend.num_features
        self.downsample_rate = self.frontend.hop_samples

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        features, frames = self.frontend(waveforms, lengths)
        return Features([features], frames)
