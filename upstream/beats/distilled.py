"""BEATs' tokenizer of the second iteration on: an encoder of the same kind, and a codebook that quantises its output.

Chen et al., 2022, https://arxiv.org/abs/2212.09058; the quantiser is that of BEiT v2
(https://arxiv.org/abs/2208.06366). How it is trained is told in `distil`. Differs from the published code: labels come
as (B, N) with -1 on padding, labelling changes no state, and an untrained codebook is refused rather than filled from
whatever is to be labelled.
"""

from typing import Any

import torch
from torch import Tensor, nn

from speechssl.nn.quantizer import VectorQuantizer
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.patch_tokenizer import PatchTokenizer
from speechssl.upstream.beats.spectrogram import Spectrogram


class DistilledTokenizer(PatchTokenizer):
    """Encoder, projection and codebook.

    Args:
        upstream: arguments of the encoder, see `Beats`.
        num_codes: V.
        code_size: d.
    """

    def __init__(self, upstream: dict[str, Any], num_codes: int = 1024, code_size: int = 256) -> None:
        super().__init__()
        self.num_codes, self.code_size = num_codes, code_size
        self.upstream = Beats(**upstream)
        D = self.upstream.width
        self.projection = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, code_size))
        for layer in (self.projection[0], self.projection[2]):
            nn.init.xavier_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.quantizer = VectorQuantizer(num_codes, code_size)

    @property
    def spectrogram(self) -> Spectrogram:
        return self.upstream.spectrogram

    @property
    def ready(self) -> bool:
        return self.quantizer.ready and super().ready

    def vectors(self, cells: Tensor, frames: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return what gets quantised (B, N, d) float32, and (B, N) bool, True on patches that count.

        Args:
            cells: (B, T, 128) normalised spectrogram.
            frames: (B,) valid frames.
            valid: (B, N) bool where another rule than that of whole columns of valid frames says what counts.
        """
        states, valid = self.upstream.token_states(cells, frames, valid)
        with torch.autocast(cells.device.type, enabled=False):
            return self.projection(states[-1].float()), valid

    def labels(self, cells: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
        return self.quantizer.lookup(self.vectors(cells, frames, valid)[0])
