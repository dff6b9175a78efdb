"""BEATs' first labels: a fixed random projection of each patch, and the nearest of fixed random codes.

Chen et al., 2022, https://arxiv.org/abs/2212.09058, after BEST-RQ (Chiu et al., https://arxiv.org/abs/2202.01855).
The paper leaves open how projection and codes are drawn and normalised. Here codes have unit norm, as in BEST-RQ, since
otherwise the short ones win everywhere; and a patch is normalised first, since otherwise its loudness decides.
OpenBEATs (https://arxiv.org/abs/2507.14129) normalises the projected vector instead, and the codes not at all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.errors import UserError, nearest
from speechssl.nn import kmeans
from speechssl.upstream.beats.masks import PATCH
from speechssl.upstream.beats.patch_tokenizer import PatchTokenizer, check_codebook
from speechssl.upstream.beats.patches import to_patches
from speechssl.upstream.beats.spectrogram import AUDIOSET, Spectrogram

INPUT_NORMS = ("layernorm", "none")
PIXELS = PATCH * PATCH  # of a patch


class RandomProjection(PatchTokenizer):
    """The nearest of V random unit vectors to a random projection of the patch.

    Both are drawn on the CPU from a generator of their own; afterwards the state dict counts, the seed only tells
    where they came from.

    Args:
        num_codes: V.
        code_size: d.
        input_norm: "layernorm" gives every patch mean 0 and variance 1 first; "none" leaves it.
        seed: of projection and codes.
        mean, std: see `Spectrogram`.
    """

    def __init__(
        self,
        num_codes: int = 1024,
        code_size: int = 256,
        input_norm: str = "layernorm",
        seed: int = 45,
        mean: float | None = AUDIOSET[0],
        std: float | None = AUDIOSET[1],
    ) -> None:
        super().__init__()
        check_codebook(num_codes, code_size)
        if input_norm not in INPUT_NORMS:
            raise UserError(
                f"unknown input_norm {input_norm!r}; known: {', '.join(INPUT_NORMS)}{nearest(input_norm, INPUT_NORMS)}"
            )
        self.num_codes, self.input_norm = num_codes, input_norm
        self.spectrogram = Spectrogram(mean, std)
        generator = torch.Generator().manual_seed(seed)
        std_of_weights = (2 / (PIXELS + code_size)) ** 0.5  # Xavier
        projection = torch.randn(code_size, PIXELS, generator=generator, device="cpu") * std_of_weights
        codebook = torch.randn(num_codes, code_size, generator=generator, device="cpu")
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=1))

    def labels(self, cells: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
        exact = kmeans.exact_dtype(cells.device)
        with torch.autocast(cells.device.type, enabled=False):
            patches = to_patches(cells).to(exact)
            if self.input_norm == "layernorm":
                patches = F.layer_norm(patches, (PIXELS,))
            projected = patches @ self.projection.T.to(exact)
        # The projected vector's length changes no order among unit vectors, so it needs no normalisation.
        return kmeans.nearest(projected, self.codebook, unit=True)
