"""wav2vec 2.0 and its relatives in Hugging Face transformers: a stack of convolutions, then a Transformer.

Baevski et al., 2020, https://arxiv.org/abs/2006.11477 (wav2vec 2.0); Hsu et al., 2021, https://arxiv.org/abs/2106.07447
(HuBERT); Chen et al., 2022, https://arxiv.org/abs/2110.13900 (WavLM); Baevski et al., 2022,
https://arxiv.org/abs/2202.03555 (data2vec); Wu et al., 2022, https://arxiv.org/abs/2109.06870 (SEW); Wang et al., 2021,
https://arxiv.org/abs/2101.07597 (UniSpeech). The models are those of https://github.com/huggingface/transformers.
Differs from calling the library on a padded batch: there, padding changes what most of these models return; here each
utterance comes out as if it were alone.
"""

from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.interfaces import Features, Upstream
from speechssl.nn.padding import lengths_to_mask

KINDS = (
    "wav2vec2",
    "wav2vec2-conformer",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "sew",
    "sew-d",
    "unispeech",
    "unispeech-sat",
)
MASKED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")  # see `_padding_is_masked`
EPSILON = 1e-7  # added to the variance of a waveform, as Wav2Vec2FeatureExtractor does


class WaveformModel(Upstream):
    """A model that reads waveforms; one frame per step of its convolutions (20 ms in all published ones).

    Hidden state 0 is the input of the first layer, the last one the model's `last_hidden_state`: of models that put the
    norm before each block this is after their final norm, whatever version of the library collected the others. SEW
    works at half the rate of its convolutions and only repeats frames at its end: all hidden states are at half the
    rate here, and the last one is the output of the last layer.

    Padding enters the group norm over time of the smaller models, the several convolutions of data2vec's positions, the
    pooling of SEW and the convolutions of the conformer, whatever mask they are given. Such models encode utterances
    of one length at a time; the others take the whole batch with an attention mask.

    Args:
        model: of transformers.
        normalize: bring each utterance to mean 0 and variance 1 first, as its feature extractor says.
        sample_rate: Hz.
    """

    def __init__(self, model: nn.Module, normalize: bool, sample_rate: int = 16000) -> None:
        super().__init__()
        config = model.config
        self.model, self.normalize, self.sample_rate = model, normalize, sample_rate
        self.hidden_size, self.num_layers = config.hidden_size, config.num_hidden_layers
        self.convolutions = list(zip(config.conv_kernel, config.conv_stride, strict=True))
        self.squeeze = getattr(config, "squeeze_factor", 1)  # frames of the convolutions per frame of the Transformer
        self.downsample_rate = prod(config.conv_stride) * self.squeeze
        self.min_samples = receptive_field(self.convolutions, self.squeeze)
        self.padding_is_masked = _padding_is_masked(config)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Return the frames of (B,) samples."""
        for kernel, stride in self.convolutions:
            lengths = (lengths - kernel) // stride + 1
        return lengths // self.squeeze

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        frames = self.num_frames(lengths)
        waveforms = waveforms[:, : int(lengths.max())] * lengths_to_mask(lengths, int(lengths.max()))
        if self.normalize:
            waveforms = normalized(waveforms, lengths)
        if self.padding_is_masked and bool((lengths != lengths[0]).any()):
            mask = lengths_to_mask(lengths, waveforms.shape[1])
            return Features(self._states(waveforms, mask.long()), frames)
        return Features(self._by_length(waveforms, lengths, int(frames.max())), frames)

    def _by_length(self, waveforms: Tensor, lengths: Tensor, total: int) -> list[Tensor]:
        """Return hidden states (B, total, D), utterances of each length on their own."""
        rows, parts = [], []
        for samples in lengths.unique().tolist():
            same = (lengths == samples).nonzero()[:, 0]
            states = self._states(waveforms[same, :samples], None)
            rows.append(same)
            parts.append([F.pad(state, (0, 0, 0, total - state.shape[1])) for state in states])
        back = torch.cat(rows).argsort()
        return [torch.cat(layer)[back] for layer in zip(*parts, strict=True)]

    def _states(self, waveforms: Tensor, mask: Tensor | None) -> list[Tensor]:
        output = self.model(waveforms, attention_mask=mask, output_hidden_states=True)
        states = list(output.hidden_states)
        if self.squeeze == 1:
            states[-1] = output.last_hidden_state
        return states


def normalized(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, S) waveforms with mean 0 and variance 1 over each one's samples, zero beyond its length."""
    mask, count = lengths_to_mask(lengths, waveforms.shape[1]), lengths[:, None]
    centred = (waveforms - waveforms.sum(1, keepdim=True) / count) * mask
    return centred / (centred.square().sum(1, keepdim=True) / count + EPSILON).sqrt()


def receptive_field(convolutions: list[tuple[int, int]], frames: int = 1) -> int:
    """Return the samples that a number of frames of a stack of (kernel, stride) need."""
    for kernel, stride in reversed(convolutions):
        frames = (frames - 1) * stride + kernel
    return frames


def _padding_is_masked(config: object) -> bool:
    """Tell whether an attention mask keeps padding out of a model.

    It does where convolutions are normalised frame by frame, and padded frames, zeroed before the one convolution of
    the positions, are still zero in it. Batch norm before that convolution (some HuBERT) makes them something else.
    """
    return (
        config.model_type in MASKED
        and config.feat_extract_norm == "layer"
        and not getattr(config, "conv_pos_batch_norm", False)
    )
