"""What BEATs' tokenizers share: one label per patch of 16 frames by 16 mel bins, in the order of the model's tokens."""

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import Tokenizer
from speechssl.upstream.beats.masks import HOP, PATCH, WINDOW
from speechssl.upstream.beats.patches import picture, whole_columns
from speechssl.upstream.beats.spectrogram import Spectrogram


class PatchTokenizer(Tokenizer):
    """Spectrogram in front, padding marked behind; a kind says how patches become labels."""

    min_samples = WINDOW + (PATCH - 1) * HOP
    spectrogram: Spectrogram

    @property
    def ready(self) -> bool:
        """Whether labels can be had."""
        return self.spectrogram.known

    def labels(self, cells: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
        """Return labels (B, N) of normalised spectrograms (B, T, 128), anything on patches that are not `valid`."""
        raise NotImplementedError(f"{type(self).__name__} has to implement labels(cells, frames, valid)")

    @torch.no_grad()
    def codes(self, cells: Tensor, frames: Tensor) -> Tensor:
        """Return labels (B, N) int64, -1 on padding, of normalised spectrograms (B, T, 128) with (B,) valid frames."""
        valid = whole_columns(cells, frames)
        return self.labels(cells, frames, valid).masked_fill(~valid, -1)

    def encode(self, waveforms: Tensor, lengths: Tensor, mask_rule: str = "exact") -> Tensor:
        cells, frames, valid = picture(self.spectrogram, waveforms, lengths, mask_rule)
        return self.labels(cells, frames, valid).masked_fill(~valid, -1)

    def statistics_frontend(self) -> nn.Module | None:
        return None if self.spectrogram.known else self.spectrogram.fbank

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        self.spectrogram.set_statistics(mean, std)


def check_codebook(num_codes: int, code_size: int) -> None:
    if num_codes < 2 or code_size < 1:
        raise UserError(
            f"expected num_codes of at least 2 and code_size of at least 1, found {num_codes} and {code_size}"
        )
