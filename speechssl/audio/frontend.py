"""What all frontends share: framing, deltas, normalisation, corpus statistics and checks."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.audio.deltas import append_deltas
from speechssl.audio.mel import band_ranges
from speechssl.audio.normalize import Normalization, normalize_utterances, normalize_utterances_
from speechssl.audio.spectrum import BAND, BlockBuffers, full_precision, log_mel_batch, log_mel_clip_
from speechssl.errors import UserError
from speechssl.files import digest

CONSTANT = 1e-5  # a channel whose std is below this share of its level never changes (an empty filter)


@dataclass(frozen=True)
class Framing:
    """Which samples make a frame."""

    sample_rate: int  # Hz
    window_samples: int
    hop_samples: int
    fft_size: int  # samples, zero-padded from the window

    @classmethod
    def of(cls, sample_rate: int, frame_ms: float, hop_ms: float, power_of_two: bool) -> "Framing":
        window, hop = round(sample_rate * frame_ms / 1000), round(sample_rate * hop_ms / 1000)
        if window < 2 or hop < 1:
            raise UserError(f"expected frames of at least 2 samples, found {frame_ms} ms every {hop_ms} ms")
        return cls(sample_rate, window, hop, 1 << (window - 1).bit_length() if power_of_two else window)


class Frontend(nn.Module, ABC):
    """Waveforms to features, in float32 on the waveforms' device; see `KaldiFbank` and `LogMel`.

    Args:
        name: start of `key`.
        settings: everything else than framing and deltas that determines the features before normalisation.
        framing: window and hop.
        window: (W,) analysis window.
        bank: (bins, num_mels) mel filters.
        normalization: the last step.
        deltas: rounds of delta features to append.
        delta_window: frames each delta is fitted over.
    """

    min_samples: int  # shortest waveform with a valid frame (two, where a std over time is needed)

    def __init__(
        self,
        name: str,
        settings: dict[str, Any],
        framing: Framing,
        window: Tensor,
        bank: Tensor,
        normalization: Normalization,
        deltas: int = 0,
        delta_window: int = 5,
    ) -> None:
        super().__init__()
        self.sample_rate, self.hop_samples = framing.sample_rate, framing.hop_samples
        self.window_samples, self.fft_size = framing.window_samples, framing.fft_size
        self.num_mels = bank.shape[1]
        self.num_features = self.num_mels * (deltas + 1)
        self.deltas, self.delta_window = deltas, delta_window
        self.normalization, self._numbers = normalization.kind, normalization
        identity = settings | asdict(framing) | {"deltas": (deltas, delta_window if deltas else 0)}
        self.key = f"{name}-{self.num_features}-{digest(_canonical(identity))[:8]}"
        self.bands = band_ranges(bank, BAND)
        with torch.inference_mode(False):  # a tensor made under inference_mode would break a later backward
            self.register_buffer("window", window.clone(), persistent=False)
            self.register_buffer("bank", bank.clone(), persistent=False)
            if normalization.kind == "corpus":
                self.register_buffer("corpus_mean", torch.zeros(self.num_features))
                self.register_buffer("corpus_std", torch.ones(self.num_features))
                self.register_buffer("statistics_known", torch.tensor(False))
        self._statistics_seen = False  # True once read from the buffer, so that a GPU is asked only once

    def forward(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised features (B, T, F), exact zeros beyond the valid frames, and valid frames (B,).

        Args:
            waveforms: (B, S) in [-1, 1] at `sample_rate`.
            lengths: (B,) valid samples; what lies beyond is never looked at.
            rms: (B,) root mean square of the whole utterance, where `waveforms` holds crops. Only `LogMel`
                uses it.

        Raises:
            UserError: wrong shapes, a waveform shorter than `min_samples`, or corpus statistics that are not
                known yet. Lengths on an accelerator are not read back; there a too short waveform gets 0
                valid frames.
        """
        self._require_statistics()
        features, frames = self.unnormalized(waveforms, lengths, rms)
        return self.normalize(features, frames), frames

    def unnormalized(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return features (B, T, F) before normalisation, deltas included, zero in padding; frames (B,)."""
        lengths, rms = self._check(waveforms, lengths, rms)
        frames = self.num_valid_frames(lengths, waveforms.shape[1]) * (lengths >= self.min_samples)
        with full_precision(waveforms.device.type):
            waveforms = waveforms.float()
            path = self.by_block if self._in_place(waveforms) else self.by_batch
            features = append_deltas(path(waveforms, lengths, rms), frames, self.deltas, self.delta_window)
            return self._zero_padding(features, frames), frames

    def normalize(self, features: Tensor, frames: Tensor) -> Tensor:
        """Normalise what `unnormalized` returned; on a CPU without gradients this overwrites `features`."""
        kind = self.normalization
        if kind == "none":
            return features
        with full_precision(features.device.type):
            if kind in ("mean", "utterance"):
                apply = normalize_utterances_ if self._in_place(features) else normalize_utterances
                features = apply(features, frames, variance=kind == "utterance")
            else:
                mean, divisor = self._statistics()
                centred = features.sub_(mean) if self._in_place(features) else features - mean
                features = centred.div_(divisor)
            return self._zero_padding(features, frames)

    def num_frames(self, lengths: Tensor) -> Tensor:
        """Return valid frames for (B,) valid samples."""
        raise NotImplementedError(f"{type(self).__name__} has to implement num_frames(lengths)")

    def num_valid_frames(self, lengths: Tensor, padded_samples: int) -> Tensor:
        """Return valid frames of waveforms padded to `padded_samples`; overridden where padding matters."""
        return self.num_frames(lengths)

    def by_block(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
        """Return log-mel energies (B, T, num_mels) clip by clip in cached blocks: the fast path of a CPU."""
        total = int(self.num_frames(torch.tensor(waveforms.shape[1])))
        out = torch.empty(waveforms.shape[0], total, self.num_mels)
        buffers = BlockBuffers(total, self.window_samples, self.fft_size, self.bank, self.bands)
        frames = self.num_valid_frames(lengths, waveforms.shape[1]).tolist()
        for row, (length, count) in enumerate(zip(lengths.tolist(), frames, strict=True)):
            signal = self._signal(waveforms[row], length, None if rms is None else rms[row])
            clip = signal.unfold(0, self.window_samples, self.hop_samples)[:count]
            log_mel_clip_(clip, out[row, :count], buffers, self._window_, self._floor_)
            out[row, count:] = 0
        return out

    def by_batch(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
        """Return log-mel energies (B, T, num_mels) in one go: for accelerators, and differentiable."""
        inside = torch.arange(waveforms.shape[1], device=waveforms.device) < lengths[:, None]
        signals = self._signals(waveforms.masked_fill(~inside, 0), lengths, rms)
        windowed = self._windowed(signals.unfold(1, self.window_samples, self.hop_samples))
        return log_mel_batch(windowed, self.fft_size, self.bank, self._floor_)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take corpus mean and std (F,) of the unnormalised features; they travel in the state dict.

        A channel that never changes (an empty mel filter) gets a std of 1, so that it stays near 0.
        """
        if self.normalization != "corpus":
            raise UserError(f"only normalization='corpus' takes statistics, not {self.normalization!r}")
        mean, std = torch.as_tensor(mean).double(), torch.as_tensor(std).double()
        shape = (self.num_features,)
        fits = mean.shape == shape and std.shape == shape
        if not fits or not (mean.isfinite() & std.isfinite() & (std >= 0)).all():
            raise UserError(
                f"expected finite mean and std of shape {shape}, found {tuple(mean.shape)} and {tuple(std.shape)}"
            )
        std = torch.where(std < CONSTANT * (1 + mean.abs()), torch.ones_like(std), std)
        self.corpus_mean.copy_(mean)
        self.corpus_std.copy_(std)
        self.statistics_known.fill_(True)

    @abstractmethod
    def _signal(self, waveform: Tensor, length: int, rms: Tensor | None) -> Tensor:
        """Return the signal (M,) to cut the frames of one waveform (S,) with `length` valid samples from."""

    @abstractmethod
    def _signals(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
        """Return the same for (B, S) waveforms that are zero beyond their lengths: (B, M)."""

    @abstractmethod
    def _window_(self, frames: Tensor, scratch: Tensor, out: Tensor) -> None:
        """Write conditioned, windowed frames (T, W) into `out`."""

    @abstractmethod
    def _windowed(self, frames: Tensor) -> Tensor:
        """Return conditioned, windowed frames (B, T, W)."""

    @abstractmethod
    def _floor_(self, energies: Tensor) -> Tensor:
        """Keep energies away from zero, in place, before the logarithm."""

    def _in_place(self, tensor: Tensor) -> bool:
        """Tell whether to work clip by clip and in place: on a CPU, nothing differentiated or traced."""
        differentiates = torch.is_grad_enabled() and tensor.requires_grad
        return tensor.device.type == "cpu" and not differentiates and not torch.compiler.is_compiling()

    def _zero_padding(self, features: Tensor, frames: Tensor) -> Tensor:
        if self._in_place(features):
            for clip, count in zip(features, frames.tolist(), strict=True):
                clip[count:] = 0
            return features
        padding = torch.arange(features.shape[1], device=features.device) >= frames[:, None]
        return features.masked_fill(padding[..., None], 0)

    def _statistics(self) -> tuple[Tensor | float, Tensor | float]:
        """Return what to subtract and what to divide by."""
        factor = self._numbers.std_factor
        if self.normalization == "corpus":
            return self.corpus_mean, self.corpus_std * factor
        return self._numbers.mean, self._numbers.std * factor

    def _require_statistics(self) -> None:
        if self.normalization != "corpus" or self._statistics_seen:
            return
        if not bool(self.statistics_known):
            raise UserError(
                f"{type(self).__name__} with normalization='corpus' has no statistics yet; call "
                "set_statistics(mean, std) or load a checkpoint that carries them"
            )
        self._statistics_seen = True

    def _check(self, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> tuple[Tensor, Tensor | None]:
        name = type(self).__name__
        if waveforms.dim() != 2 or not waveforms.is_floating_point():
            found = f"{tuple(waveforms.shape)} {waveforms.dtype}"
            raise UserError(f"{name} expects float waveforms of shape (B, S) in [-1, 1], found {found}")
        lengths = torch.as_tensor(lengths)
        if lengths.shape != waveforms.shape[:1] or lengths.is_floating_point():
            raise UserError(f"{name} expects ({waveforms.shape[0]},) integer lengths in samples, found {lengths}")
        shortest, longest = waveforms.shape[1], waveforms.shape[1]
        if lengths.device.type == "cpu" and lengths.numel() and not torch.compiler.is_compiling():
            shortest, longest = int(lengths.min()), int(lengths.max())
        if longest > waveforms.shape[1]:
            raise UserError(f"{name} got a length of {longest} samples for waveforms of {waveforms.shape[1]}")
        if shortest < self.min_samples:
            raise UserError(
                f"{name} needs at least {self.min_samples} samples "
                f"({self.min_samples / self.sample_rate * 1000:g} ms), found {shortest}; pad or leave it out"
            )
        if rms is not None:
            rms = torch.as_tensor(rms, dtype=torch.float32, device=waveforms.device)
        if rms is not None and rms.shape != lengths.shape:
            raise UserError(f"{name} expects rms of shape {tuple(lengths.shape)}, found {tuple(rms.shape)}")
        return lengths.to(waveforms.device, torch.int64), rms

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._statistics_seen = False

    def _apply(self, fn: Any, recurse: bool = True) -> "Frontend":
        """Move with the model, but stay float32 when it is cast: bfloat16 keeps two to three digits only."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            if self._buffers[name].dtype != buffer.dtype:
                self._buffers[name] = buffer.to(self._buffers[name].device)
        return self


def _canonical(value: Any) -> Any:
    """Return a JSON-like value in which 20 and 20.0 are the same, so that equal settings have equal keys."""
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    return float(value) if isinstance(value, int) else value
