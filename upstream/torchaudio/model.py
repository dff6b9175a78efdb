"""torchaudio's wav2vec 2.0, HuBERT and WavLM behind our contract.

https://docs.pytorch.org/audio/stable/pipelines.html. Differs from `extract_features` on a padded batch: every utterance
is encoded alone, because the models with a group norm in their convolutions (all of the base size) let padding into
every frame, and the input normalisation of the others is taken over the whole padded batch. The input of the first
layer, which `extract_features` leaves out, comes first.
"""

import math
from typing import Any

from torch import Tensor, nn

from speechssl.interfaces import Features, Upstream
from speechssl.nn.one_by_one import encode_one_by_one


class Torchaudio(Upstream):
    """Hidden states of a `torchaudio.models.Wav2Vec2Model`: the input of the first layer, and what each layer gives.

    Frames: those of the convolutions, 1 + (samples - 400) // 320 for every published bundle.

    Args:
        model: what a bundle's `get_model()` returns, with the input normalisation around it where there is one.
        sample_rate: Hz.
        config: what tells which model it is.
    """

    def __init__(self, model: nn.Module, sample_rate: int, config: dict[str, Any]):
        super().__init__()
        self.model = model.eval()
        self.config = config
        self.sample_rate = sample_rate
        inner = self._inner()
        self.num_layers = len(inner.encoder.transformer.layers)
        self.hidden_size = inner.encoder.feature_projection.projection.out_features
        self.downsample_rate = math.prod(block.stride for block in inner.feature_extractor.conv_layers)
        needed = 1
        for block in reversed(inner.feature_extractor.conv_layers):
            needed = (needed - 1) * block.stride + block.kernel_size
        self.min_samples = max(Upstream.min_samples, needed)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        return encode_one_by_one(self._states, waveforms, lengths)

    def _states(self, waveform: Tensor) -> list[Tensor]:
        """Return the hidden states (1, T, D) of one waveform (1, S)."""
        entered: list[Tensor] = []
        first = self._inner().encoder.transformer.layers[0]
        handle = first.register_forward_pre_hook(lambda module, arguments: entered.append(arguments[0]))
        try:
            layers, _ = self.model.extract_features(waveform)
        finally:
            handle.remove()
        return [*entered, *layers]

    def _inner(self) -> nn.Module:
        """Return the model without its input normalisation."""
        return getattr(self.model, "model", self.model)
