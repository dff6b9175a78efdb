"""Labels by k-means of raw patches: the nearest of V patches that stand for those of a corpus.

An extra of this project, not part of BEATs: a baseline for what random projection and distillation add.
"""

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.nn.kmeans import euclidean_kmeans, nearest
from speechssl.upstream.beats.masks import PATCH
from speechssl.upstream.beats.patch_tokenizer import PatchTokenizer, check_codebook
from speechssl.upstream.beats.patches import to_patches
from speechssl.upstream.beats.spectrogram import AUDIOSET, Spectrogram


class PatchKMeans(PatchTokenizer):
    """The nearest of V patches, which k-means found among those of a corpus.

    Args:
        num_codes: V.
        iterations: of k-means.
        mean, std: see `Spectrogram`.
    """

    def __init__(
        self,
        num_codes: int = 1024,
        iterations: int = 20,
        mean: float | None = AUDIOSET[0],
        std: float | None = AUDIOSET[1],
    ) -> None:
        super().__init__()
        check_codebook(num_codes, 1)
        self.num_codes, self.iterations = num_codes, iterations
        self.spectrogram = Spectrogram(mean, std)
        self.register_buffer("codebook", torch.zeros(num_codes, PATCH * PATCH))
        self.register_buffer("initialised", torch.tensor(False))
        self._initialised = False

    @property
    def ready(self) -> bool:
        if not self._initialised:  # looked up until it is: on a GPU that waits for the device
            self._initialised = bool(self.initialised)
        return self._initialised and super().ready

    def fit(self, patches: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Find the codes among normalised patches (M, 256), and return how many chose each (V,).

        Args:
            patches: of all over the corpus, at least V; a few dozen times V give stable codes.
            generator: of the patches to begin with (on the CPU).
        """
        if len(patches) < self.num_codes:
            raise UserError(
                f"{self.num_codes} codes need at least as many patches, found {len(patches)}; "
                "use more audio or fewer codes (num_codes)"
            )
        codebook, counts = euclidean_kmeans(patches, self.num_codes, generator, iterations=self.iterations)
        self.codebook.copy_(codebook)
        self.initialised.fill_(True)
        return counts

    def labels(self, cells: Tensor, frames: Tensor, valid: Tensor) -> Tensor:
        if not self.ready:
            raise UserError("the codes have not been found yet: fit them to patches, or load a tokenizer that has them")
        return nearest(to_patches(cells), self.codebook, unit=False)

    def _load_from_state_dict(self, *arguments: object) -> None:
        super()._load_from_state_dict(*arguments)
        self._initialised = False
