"""Frozen upstreams by name, ready for a corpus, each with its feature cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.hub import load_upstream, take_statistics, weights_sha256
from speechssl.interfaces import Upstream
from speechssl.probe.cache import FeatureCache
from speechssl.probe.online import OnlineFeatures


@dataclass(frozen=True)
class EncodingSettings:
    """How features are made and kept.

    Attributes:
        device: "cpu" or "cuda".
        cache: folder of all feature caches.
        frame_dtype: of frame-level features on disk, "float16", "float32" or "int8".
        max_seconds: padded audio per forward pass.
        num_workers: processes that read audio.
        online: keep nothing, and compute the features anew for every batch.
    """

    device: str
    cache: Path
    frame_dtype: str
    max_seconds: float
    num_workers: int
    online: bool = False

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise UserError(
                f"device expects cpu or cuda, found {self.device!r}; choose a GPU with CUDA_VISIBLE_DEVICES"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UserError("device=cuda, but PyTorch finds no CUDA device; use cpu, or see speechssl doctor")


class Encoder:
    """One named upstream.

    A model that still wants corpus statistics takes those of the train split it is used on, so that it may be
    another one on every corpus; any other model is loaded once.

    Args:
        name: as for `load_upstream`.
        settings: of features and their cache.
        overrides: constructor arguments that replace those of the model's configuration.
    """

    def __init__(self, name: str, settings: EncodingSettings, overrides: dict[str, Any]):
        self.name, self.settings, self.overrides = name, settings, overrides
        self._cache: FeatureCache | OnlineFeatures | None = None
        self._model: Upstream | None = None
        self._sha256 = ""

    def on(self, corpus: Corpus) -> tuple[FeatureCache | OnlineFeatures, str]:
        """Return the feature cache of the model on a corpus, and the digest of its weights."""
        if self._cache is not None:
            return self._cache, self._sha256
        upstream, depends_on_corpus = self._load(corpus)
        cache, sha256 = self._open(upstream)
        if not depends_on_corpus:
            self._cache, self._sha256 = cache, sha256
        return cache, sha256

    def model(self, corpus: Corpus) -> tuple[Upstream, str]:
        """Return the model itself, on the CPU and not to be changed, and the digest of its weights."""
        if self._model is not None:
            return self._model, self._sha256
        upstream, depends_on_corpus = self._load(corpus)
        sha256 = weights_sha256(upstream)
        if not depends_on_corpus:
            self._model, self._sha256 = upstream, sha256
        return upstream, sha256

    def check(self) -> None:
        """Raise UserError for a model that cannot be loaded, which is noticed only when it is."""
        load_upstream(self.name, **self.overrides)

    def _load(self, corpus: Corpus) -> tuple[Upstream, bool]:
        """Return the model, and whether it took statistics of the corpus."""
        upstream = load_upstream(self.name, **self.overrides)
        return upstream, take_statistics(upstream, corpus)

    def _open(self, upstream: Upstream) -> tuple[FeatureCache | OnlineFeatures, str]:
        sha256, settings = weights_sha256(upstream), self.settings
        frozen = upstream.eval().requires_grad_(False).to(settings.device)
        reading = {"max_seconds": settings.max_seconds, "num_workers": settings.num_workers}
        if settings.online:
            return OnlineFeatures(frozen, **reading), sha256
        return FeatureCache(settings.cache, frozen, sha256, frame_dtype=settings.frame_dtype, **reading), sha256
