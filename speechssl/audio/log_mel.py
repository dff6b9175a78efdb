"""TERA's log-mel spectrogram, per utterance.

Liu, Li and Lee, 2021, https://arxiv.org/abs/2007.06028, with the values of s3prl's online preprocessor: the
utterance is brought to a fixed loudness, a centred STFT with a periodic Hann window and reflected ends gives
the power spectrum, 80 HTK mel filters follow, the natural logarithm of (energy + 1e-10), and mean and
variance normalisation.

Where we differ: s3prl pads a batch with zeros before the STFT, so the end of a short utterance, its number of
frames and through the normalisation all of its values depend on its neighbours. Here every utterance is
reflected at its own end and has 1 + samples // hop frames; `batch_padded=True` gives s3prl's numbers for
comparisons.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.audio.frontend import Framing, Frontend
from speechssl.audio.mel import analysis_window, htk_bank, mel_centres
from speechssl.audio.normalize import Normalization

EPSILON = 1e-10


class LogMel(Frontend):
    """Log-mel energies of a centred STFT at a fixed loudness.

    Args:
        num_mels: filters F.
        loudness_db: root mean square every utterance is brought to, dB re full scale; None leaves the level
            alone.
        low_freq: lowest filter edge, Hz.
        high_freq: highest, Hz; zero or negative counts down from Nyquist.
        normalization, mean, std, std_factor: see `Normalization`.
        batch_padded: pad with zeros to the longest of the batch before the STFT, as s3prl does (S must be the
            length of the longest utterance then).
        sample_rate: Hz.
        frame_ms, hop_ms: window length (also of the FFT) and shift, milliseconds.
    """

    def __init__(
        self,
        num_mels: int = 80,
        *,
        loudness_db: float | None = -25.0,
        low_freq: float = 0.0,
        high_freq: float = 0.0,
        normalization: str = "utterance",
        mean: float | None = None,
        std: float | None = None,
        std_factor: float = 1.0,
        batch_padded: bool = False,
        sample_rate: int = 16000,
        frame_ms: float = 25.0,
        hop_ms: float = 10.0,
    ) -> None:
        framing = Framing.of(sample_rate, frame_ms, hop_ms, power_of_two=False)
        size, mels = framing.window_samples, (num_mels, sample_rate, low_freq, high_freq)
        super().__init__(
            "log_mel",
            {"mels": mels, "loudness_db": loudness_db, "batch_padded": batch_padded},
            framing,
            analysis_window("hann", size, periodic=True),
            htk_bank(size // 2 + 1, *mels),
            Normalization(normalization, mean, std, std_factor),
        )
        self.centres_hz = mel_centres(*mels)  # (num_mels,), for pictures
        self.loudness_db, self.batch_padded = loudness_db, batch_padded
        self.reach = size // 2  # samples reflected at each end
        self.min_samples = self.reach + 1

    def num_frames(self, lengths: Tensor) -> Tensor:
        return 1 + lengths // self.hop_samples

    def num_valid_frames(self, lengths: Tensor, padded_samples: int) -> Tensor:
        if not self.batch_padded:
            return self.num_frames(lengths)
        samples_per_frame = padded_samples / (1 + padded_samples // self.hop_samples)
        return torch.round(lengths.double() / samples_per_frame).long()

    def _gain(self, rms: Tensor) -> Tensor:
        return 10 ** (self.loudness_db / 20) / (rms + EPSILON)

    def _signal(self, waveform: Tensor, length: int, rms: Tensor | None) -> Tensor:
        """Return one utterance at its loudness with `reach` reflected samples at each end."""
        valid, reach = waveform[:length], self.reach
        total = waveform.shape[0] if self.batch_padded else length
        signal = waveform.new_empty(total + 2 * reach)
        inner = signal[reach : reach + total]
        inner[length:] = 0
        if self.loudness_db is None:
            inner[:length] = valid
        else:
            level = valid.square().mean().sqrt() if rms is None else rms
            torch.mul(valid, self._gain(level), out=inner[:length])
        signal[:reach] = inner[1 : reach + 1].flip(0)
        signal[reach + total :] = inner[total - reach - 1 : total - 1].flip(0)
        return signal

    def _signals(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
        if self.loudness_db is not None:
            if rms is None:  # the clamp keeps the gradient of the root finite for digital silence
                rms = (waveforms.square().sum(1) / lengths.clamp(min=1)).clamp(min=EPSILON**2).sqrt()
            waveforms = waveforms * self._gain(rms)[:, None]
        reach = self.reach
        signals = torch.cat([waveforms[:, 1 : reach + 1].flip(1), F.pad(waveforms, (0, reach))], dim=1)
        ends = torch.full_like(lengths, waveforms.shape[1]) if self.batch_padded else lengths
        steps = torch.arange(reach, device=waveforms.device)
        tails = waveforms.gather(1, (ends[:, None] - 2 - steps).clamp(min=0))
        return signals.scatter(1, ends[:, None] + reach + steps, tails)

    def _window_(self, frames: Tensor, scratch: Tensor, out: Tensor) -> None:
        torch.mul(frames, self.window, out=out)

    def _windowed(self, frames: Tensor) -> Tensor:
        return frames * self.window

    def _floor_(self, energies: Tensor) -> Tensor:
        return energies.add_(EPSILON)
