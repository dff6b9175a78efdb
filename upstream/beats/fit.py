"""Makes the first tokenizer ready: codes by k-means where it needs any, and a look at how evenly they are used."""

from typing import Any

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.interfaces import BatchStream, TokenizerFit
from speechssl.metrics.codebook import CodebookUsage
from speechssl.upstream.beats.patch_kmeans import PatchKMeans
from speechssl.upstream.beats.patch_tokenizer import PatchTokenizer
from speechssl.upstream.beats.patches import to_patches, whole_columns

PER_CODE = 64  # patches read per code
FEWEST = 32768  # patches read in any case
MOST_BATCHES = 10_000  # after which too few patches have to do


class CodebookFit(TokenizerFit):
    """Reads patches of random crops.

    Args:
        tokenizer: random projection or k-means.
        seed: of the patches that k-means begins with.
    """

    tokenizer: PatchTokenizer

    def __init__(self, tokenizer: PatchTokenizer, seed: int):
        self.tokenizer, self.seed = tokenizer, seed
        self.usage = CodebookUsage(tokenizer.num_codes)

    @torch.no_grad()
    def fit(self, batches: BatchStream) -> None:
        pictures = self._pictures(batches)
        if isinstance(self.tokenizer, PatchKMeans):
            patches = [to_patches(cells)[whole_columns(cells, frames)] for cells, frames in pictures]
            self.tokenizer.fit(torch.cat(patches), torch.Generator().manual_seed(self.seed))
        for cells, frames in pictures:
            self.usage.update(self.tokenizer.codes(cells, frames))

    def _pictures(self, batches: BatchStream) -> list[tuple[Tensor, Tensor]]:
        """Return spectrograms (B, T, 128) and frames (B,) of as much of the corpus as it takes."""
        wanted, pictures, total = max(FEWEST, PER_CODE * self.tokenizer.num_codes), [], 0
        for number, batch in enumerate(batches.iterate(0)):
            if not batch.empty:
                cells, frames = self.tokenizer.spectrogram(batch.waveforms, batch.lengths)
                pictures.append((cells, frames))
                total += int(whole_columns(cells, frames).sum())
            if total >= wanted or number == MOST_BATCHES:
                break
        if not total:
            raise UserError("found no patches: every clip is shorter than 0.175 s, or none can be read")
        return pictures

    def facts(self) -> dict[str, Any]:
        spectrogram = self.tokenizer.spectrogram
        statistics = {"mean": float(spectrogram.mean), "std": float(spectrogram.std)}
        return {"statistics": statistics, "labels_seen": False, "codebook": self.usage.compute()}
