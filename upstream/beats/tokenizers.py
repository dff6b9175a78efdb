"""The kinds of tokenizers that make BEATs' labels."""

from speechssl.interfaces import Tokenizer
from speechssl.upstream.beats.distilled import DistilledTokenizer
from speechssl.upstream.beats.patch_kmeans import PatchKMeans
from speechssl.upstream.beats.random_projection import RandomProjection

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "random": RandomProjection,
    "kmeans": PatchKMeans,  # an extra of this project
    "distilled": DistilledTokenizer,
}

__all__ = ["TOKENIZERS", "DistilledTokenizer", "PatchKMeans", "RandomProjection"]
