"""Kaldi-compatible log-mel filter banks, batched.

The feature of Kaldi's compute-fbank-feats (Povey et al., 2011, https://kaldi-asr.org), with the values of
torchaudio.compliance.kaldi.fbank, computed in the same order: remove each frame's mean, pre-emphasise within
the frame, window, power spectrum, triangular filters over mel, logarithm floored at float32 epsilon. Only
whole frames count (snip_edges): T = 1 + (samples - W) // hop. There is no dither and no energy column.

    TERA fbank   KaldiFbank(deltas=2, normalization="utterance")                              240 dimensions
    SSAST        KaldiFbank(128, window="hann", center_waveform=True, normalization="fixed",
                            mean=-4.2677393, std=4.5689974, std_factor=2)
    BEATs        KaldiFbank(128, scale=2**15, normalization="fixed", mean=15.41663, std=6.55582, std_factor=2)
"""

import torch
from torch import Tensor

from speechssl.audio.frontend import Framing, Frontend
from speechssl.audio.mel import analysis_window, kaldi_bank, mel_centres
from speechssl.audio.normalize import Normalization


class KaldiFbank(Frontend):
    """Log-mel filter bank energies with Kaldi's conventions.

    Args:
        num_mels: filters F. With 128 at 16 kHz filter 3 is empty and stays at the floor, as published models
            expect.
        window: "povey", "hann", "hamming", "blackman" or "rectangular".
        scale: factor on the waveform; 2**15 gives the range of 16-bit integers.
        preemphasis: coefficient; 0 turns it off.
        remove_dc: subtract each frame's mean.
        center_waveform: subtract the whole waveform's mean first.
        low_freq: lowest filter edge, Hz.
        high_freq: highest, Hz; zero or negative counts down from Nyquist.
        normalization, mean, std, std_factor: see `Normalization`.
        deltas: rounds of delta features to append, each fitted over `delta_window` frames.
        sample_rate: Hz.
        frame_ms, hop_ms: window length and shift, milliseconds.
    """

    def __init__(
        self,
        num_mels: int = 80,
        *,
        window: str = "povey",
        scale: float = 1.0,
        preemphasis: float = 0.97,
        remove_dc: bool = True,
        center_waveform: bool = False,
        low_freq: float = 20.0,
        high_freq: float = 0.0,
        normalization: str = "none",
        mean: float | None = None,
        std: float | None = None,
        std_factor: float = 1.0,
        deltas: int = 0,
        delta_window: int = 5,
        sample_rate: int = 16000,
        frame_ms: float = 25.0,
        hop_ms: float = 10.0,
    ) -> None:
        framing = Framing.of(sample_rate, frame_ms, hop_ms, power_of_two=True)
        size, mels = framing.window_samples, (num_mels, sample_rate, low_freq, high_freq)
        settings = {"window": window, "mels": mels, "scale": scale, "preemphasis": preemphasis}
        super().__init__(
            "kaldi_fbank",
            settings | {"remove_dc": remove_dc, "center_waveform": center_waveform},
            framing,
            analysis_window(window, size),
            kaldi_bank(framing.fft_size, *mels),
            Normalization(normalization, mean, std, std_factor),
            deltas,
            delta_window,
        )
        self.min_samples = size + framing.hop_samples if normalization == "utterance" else size
        self.centres_hz = mel_centres(*mels)  # (num_mels,), for pictures
        self.scale, self.preemphasis = scale, preemphasis
        self.remove_dc, self.center_waveform = remove_dc, center_waveform

    def num_frames(self, lengths: Tensor) -> Tensor:
        return 1 + (lengths - self.window_samples) // self.hop_samples

    def _signal(self, waveform: Tensor, length: int, rms: Tensor | None) -> Tensor:
        waveform = waveform[:length]
        if self.center_waveform:
            waveform = waveform - waveform.mean()
        return waveform if self.scale == 1 else waveform * self.scale

    def _signals(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
        if self.center_waveform:  # what this adds beyond the lengths is in no valid frame
            waveforms = waveforms - waveforms.sum(1, keepdim=True) / lengths.clamp(min=1)[:, None]
        return waveforms if self.scale == 1 else waveforms * self.scale

    def _window_(self, frames: Tensor, scratch: Tensor, out: Tensor) -> None:
        if self.remove_dc:
            frames = torch.sub(frames, frames.mean(1, keepdim=True), out=scratch)
        # Product and difference stay two roundings, as in the reference; a frame's first sample is its own
        # predecessor.
        torch.mul(frames[:, :-1], self.preemphasis, out=out[:, 1:])
        torch.mul(frames[:, :1], self.preemphasis, out=out[:, :1])
        torch.sub(frames, out, out=out).mul_(self.window)

    def _windowed(self, frames: Tensor) -> Tensor:
        if self.remove_dc:
            frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
        return (frames - self.preemphasis * before) * self.window

    def _floor_(self, energies: Tensor) -> Tensor:
        return energies.clamp_(min=torch.finfo(torch.float32).eps)
