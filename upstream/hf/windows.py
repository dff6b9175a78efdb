"""Encoders of transformers that read a spectrogram of fixed length: Whisper's and the Audio Spectrogram Transformer.

Radford et al., 2022, https://arxiv.org/abs/2212.04356 (Whisper); Gong, Chung and Glass, 2021,
https://arxiv.org/abs/2104.01778 (AST). The models are those of https://github.com/huggingface/transformers; their
spectrograms, computed here on the waveforms' device, have the values of its feature extractors. Differs from calling
the library: only frames of the utterance come out, and what is longer than the input is not cut off but encoded in
several windows.
"""

import torch
from torch import Tensor, nn

from speechssl.audio import KaldiFbank
from speechssl.audio.spectrum import full_precision
from speechssl.interfaces import Features, Upstream
from speechssl.nn.padding import lengths_to_mask


class Windowed(Upstream):
    """Base of models whose input has a fixed length: utterances are padded to it, longer ones cut into windows.

    The frames of a long utterance are divided evenly among as few windows as will do. Each window begins where the
    frames of the one before it end and hears all that its length has room for; windows do not see each other.

    Attributes:
        window_samples: length of the input.
        window_frames: frames that a whole window gives.
    """

    window_samples: int
    window_frames: int

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Return the frames of (B,) samples."""
        raise NotImplementedError(f"{type(self).__name__} has to implement num_frames(lengths)")

    def windows(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return hidden states (W, window_frames, D) of (W, window_samples), zero beyond the (W,) lengths."""
        raise NotImplementedError(f"{type(self).__name__} has to implement windows(waveforms, lengths)")

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        frames = self.num_frames(lengths)
        inputs, samples, kept = [], [], []
        for waveform, length, total in zip(waveforms, lengths.tolist(), frames.tolist(), strict=True):
            count = -(-total // self.window_frames)
            each = -(-total // count)
            for first in range(0, total, each):
                start = first * self.downsample_rate
                stop = min(length, start + self.window_samples)
                inputs.append(nn.functional.pad(waveform[start:stop], (0, self.window_samples - (stop - start))))
                samples.append(stop - start)
                kept.append(min(each, total - first))
        states = self.windows(torch.stack(inputs), torch.tensor(samples, device=lengths.device))
        return Features([_joined(state, kept, frames) for state in states], frames)


def _joined(state: Tensor, kept: list[int], frames: Tensor) -> Tensor:
    """Return (B, T, D) of the first `kept` frames of each window (W, T', D), for (B,) frames per utterance."""
    every = torch.cat([window[:count] for window, count in zip(state, kept, strict=True)])
    return nn.utils.rnn.pad_sequence(every.split(frames.tolist()), batch_first=True)


class WhisperEncoder(Windowed):
    """Whisper's encoder: 30 s of log-mel frames, two of them (20 ms) to a frame; ceil(samples / 320) frames.

    The log-mel values are floored at 8 decades below the loudest of the window. Windows are padded with silence, as in
    training; there is no attention mask.

    Args:
        model: the encoder alone, of transformers.
        extractor: WhisperFeatureExtractor.
    """

    min_samples = 1

    def __init__(self, model: nn.Module, extractor: object) -> None:
        super().__init__()
        config = model.config
        self.model, self.sample_rate = model, extractor.sampling_rate
        self.hidden_size, self.num_layers = config.hidden_size, config.num_hidden_layers
        self.fft_size, self.hop_samples = extractor.n_fft, extractor.hop_length
        self.downsample_rate = 2 * self.hop_samples
        self.window_frames = config.max_source_positions
        self.window_samples = self.window_frames * self.downsample_rate
        bank = torch.as_tensor(extractor.mel_filters, dtype=torch.float32)  # (bins, F)
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("window", torch.hann_window(self.fft_size), persistent=False)

    def num_frames(self, lengths: Tensor) -> Tensor:
        return (lengths + self.downsample_rate - 1) // self.downsample_rate

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return the model's input (W, F, T) of whole windows (W, window_samples)."""
        spectrum = torch.stft(waveforms, self.fft_size, self.hop_samples, window=self.window, return_complex=True)
        with full_precision(waveforms.device.type):
            power = self.bank.T @ spectrum[..., :-1].abs().square()
        decades = power.clamp(min=1e-10).log10()
        return (decades.maximum(decades.amax((1, 2), keepdim=True) - 8) + 4) / 4

    def windows(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        waveforms = waveforms * lengths_to_mask(lengths, waveforms.shape[1])
        return list(self.model(self.log_mel(waveforms), output_hidden_states=True).hidden_states)


class Ast(Windowed):
    """The Audio Spectrogram Transformer: patches of a log-mel spectrogram of fixed length (published: 10.24 s).

    A hidden state is the mean of the patches at one time; class and distillation tokens are dropped. Hidden state 0 is
    the embedded patches with their positions, the last one is after the final norm. Beyond the utterance the
    spectrogram holds zeros before it is normalised, as in training; there is no attention mask. A patch counts where
    the utterance reaches into the frames up to the next patch.

    Args:
        model: ASTModel of transformers.
        extractor: ASTFeatureExtractor.
    """

    def __init__(self, model: nn.Module, extractor: object) -> None:
        super().__init__()
        config = model.config
        self.model, self.sample_rate = model, extractor.sampling_rate
        self.hidden_size, self.num_layers = config.hidden_size, config.num_hidden_layers
        self.fbank = KaldiFbank(config.num_mel_bins, window="hann", sample_rate=self.sample_rate)
        self.mean, self.divisor = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)
        self.rows, self.window_frames = model.embeddings.get_shape(config)
        self.input_frames, self.stride = config.max_length, config.time_stride
        self.downsample_rate = self.stride * self.fbank.hop_samples
        self.min_samples = self.fbank.min_samples
        self.window_samples = self.fbank.window_samples + (self.input_frames - 1) * self.fbank.hop_samples

    def num_frames(self, lengths: Tensor) -> Tensor:
        spectral = self.fbank.num_frames(lengths)
        frames = (spectral + self.stride - 1) // self.stride
        # The last patch of a full input overlaps the end: such an utterance still is one window.
        return torch.where(spectral <= self.input_frames, frames.clamp(max=self.window_frames), frames)

    def spectrogram(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Return the model's input (W, input_frames, F) of (W, window_samples)."""
        features, _ = self.fbank(waveforms, lengths.clamp(min=self.min_samples))
        return (features - self.mean) / self.divisor

    def windows(self, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
        output = self.model(self.spectrogram(waveforms, lengths), output_hidden_states=True)
        states = [*output.hidden_states[:-1], output.last_hidden_state]
        return [state[:, 2:].unflatten(1, (self.rows, self.window_frames)).mean(1) for state in states]
