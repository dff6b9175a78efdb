"""BEATs' input: 128 log-mel bins at 100 frames/s, normalised with one mean and twice one standard deviation."""

from typing import Any

import torch
from torch import Tensor, nn

from speechssl.audio import KaldiFbank
from speechssl.errors import UserError

AUDIOSET = (15.41663, 6.55582)  # mean and std of the data the published models were pretrained on
NUM_MELS = 128
INT16 = 2.0**15  # the filter bank sees samples in the range of 16-bit integers
STD_FACTOR = 2.0


class Spectrogram(nn.Module):
    """Waveforms to normalised log-mel spectrograms.

    Args:
        mean, std: of all cells of the training data's spectrograms. None: those that come with the weights, else
            measured on the corpus the model is used on, see `set_statistics`.
    """

    def __init__(self, mean: float | None = AUDIOSET[0], std: float | None = AUDIOSET[1]) -> None:
        super().__init__()
        if (mean is None) != (std is None) or (std is not None and std <= 0):
            raise UserError(f"expected mean and a positive std, or neither; found mean={mean} and std={std}")
        self.fbank = KaldiFbank(num_mels=NUM_MELS, scale=INT16)
        self.measured = mean is None
        self.register_buffer("mean", torch.tensor(mean if mean is not None else 0.0))
        self.register_buffer("std", torch.tensor(std if std is not None else 0.0))
        self._known = False

    @property
    def known(self) -> bool:
        """Whether mean and std are there."""
        if not self._known:  # looked up until they are: on a GPU that waits for the device
            self._known = bool(self.std > 0)
        return self._known

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take per-channel statistics (F,) of the fbank and keep mean and std over all cells."""
        mean, variance = torch.as_tensor(mean).double(), torch.as_tensor(std).double().square()
        self.mean.fill_(float(mean.mean()))
        self.std.fill_(float((variance.mean() + mean.var(correction=0)).sqrt()))
        self._known = False

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take mean and std from the weights only where none were given: a setting wins over a file."""
        given = {} if self.measured else {prefix + name: getattr(self, name) for name in ("mean", "std")}
        super()._load_from_state_dict(state | given, prefix, *others)
        self._known = False

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, T, 128) in float32, 0 beyond the valid frames, and (B,) valid frames.

        Raises:
            UserError: mean and std are to be measured and have not been.
        """
        if not self.known:
            raise UserError(
                "this BEATs takes mean and std from the corpus it is used on, and has none yet: "
                "give it statistics (set_statistics), or set mean and std"
            )
        with torch.no_grad(), torch.autocast(waveforms.device.type, enabled=False):
            cells, frames = self.fbank(waveforms, lengths)
            cells = (cells - self.mean) / (STD_FACTOR * self.std)
            inside = torch.arange(cells.shape[1], device=cells.device) < frames[:, None]
            return cells.masked_fill(~inside[..., None], 0.0), frames
