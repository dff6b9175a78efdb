"""SSAST's input: 128 log-mel bins at 100 frames/s, normalised with one mean and twice one standard deviation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.audio import KaldiFbank
from speechssl.errors import UserError

AUDIOSET = (-4.2677393, 4.5689974)  # mean and std of the data the published models were pretrained on
STD_FACTOR = 2.0


class Spectrogram(nn.Module):
    """Waveforms to normalised log-mel spectrograms.

    Args:
        num_mels: F.
        mean, std: of all cells of the training data's spectrograms. None: those that come with the weights, else
            measured on the corpus the model is used on, see `set_statistics`.
        target_frames: pad or cut every clip to this many frames (its beginning is kept); None keeps its length.
        pad_before_norm: with `target_frames`, what is padded is 0 before the normalisation (as the authors train and
            fine-tune; it comes out as 0.467) or after it (as in their SUPERB experiments).
    """

    def __init__(
        self, num_mels: int, mean: float | None, std: float | None, target_frames: int | None, pad_before_norm: bool
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None) or (std is not None and std <= 0):
            raise UserError(f"expected mean and a positive std, or neither; found mean={mean} and std={std}")
        if target_frames is not None and target_frames < 1:
            raise UserError(f"target_frames must be positive, found {target_frames}")
        self.fbank = KaldiFbank(num_mels=num_mels, window="hann", center_waveform=True)
        self.measured, self.target_frames, self.pad_before_norm = mean is None, target_frames, pad_before_norm
        self.register_buffer("mean", torch.tensor(mean if mean is not None else 0.0))
        self.register_buffer("std", torch.tensor(std if std is not None else 0.0))
        self._zero: float | None = None

    @property
    def known(self) -> bool:
        """Whether mean and std are there."""
        return self._zero is not None or bool(self.std > 0)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take per-channel statistics (F,) of the fbank and keep mean and std over all cells."""
        mean, variance = torch.as_tensor(mean).double(), torch.as_tensor(std).double().square()
        self.mean.fill_(float(mean.mean()))
        self.std.fill_(float((variance.mean() + mean.var(correction=0)).sqrt()))
        self._zero = None

    @property
    def zero(self) -> float:
        """What a cell of value 0 becomes."""
        if self._zero is None:  # looked up once: on a GPU that waits for the device
            if not self.known:
                return 0.0
            self._zero = float(-self.mean / (STD_FACTOR * self.std))
        return self._zero

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take mean and std from the weights only where none were given: a setting wins over a file."""
        given = {} if self.measured else {prefix + name: getattr(self, name) for name in ("mean", "std")}
        super()._load_from_state_dict(state | given, prefix, *others)
        self._zero = None

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, F) in float32, 0 beyond the valid frames, and (B,) valid frames.

        Raises:
            UserError: mean and std are to be measured and have not been.
        """
        if not self.known:
            raise UserError(
                "this SSAST takes mean and std from the corpus it is used on, and has none yet: "
                "give it statistics (set_statistics), or set mean and std"
            )
        zero = self.zero
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            cells, frames = self.fbank(waveforms, lengths)
            cells = (cells - self.mean) / (STD_FACTOR * self.std)
            inside = torch.arange(cells.shape[1], device=cells.device) < frames[:, None]
            if self.target_frames is None:
                return cells.masked_fill(~inside[..., None], 0.0), frames
            fill = zero if self.pad_before_norm else 0.0
            cells = F.pad(cells.masked_fill(~inside[..., None], fill), (0, 0, 0, self.target_frames), value=fill)
            cells = cells[:, : self.target_frames]
            return cells, torch.full_like(frames, self.target_frames)
