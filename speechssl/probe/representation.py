"""Label-free measures of an upstream on the corpus of a task, for its rows."""

from typing import Any

import numpy as np
import torch

from speechssl.data.cuts import Corpus
from speechssl.metrics.representation import representation
from speechssl.probe.cache import FeatureCache

UTTERANCES = 1024  # at most, evenly spread over the split


class RepresentationMeasures:
    """Computes the measures once per upstream and corpus."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Any]] = {}

    def of(self, trained: Any) -> dict[str, Any] | None:
        """Return {measure: value per hidden state} and "utterances"; None where no means over time were kept.

        They are taken of means over time of utterances of train, or of dev where there is no train.

        Args:
            trained: a `speechssl.probe.modes.Trained`.
        """
        cache, corpus = getattr(trained, "cache", None), getattr(trained, "corpus", None)
        if not isinstance(cache, FeatureCache) or corpus is None:
            return None
        key = (str(cache.folder), corpus.fingerprint)
        if key not in self._known:
            self._known[key] = measure(cache, corpus, trained.task.dataset(trained.task.splits[0]).cuts)
        return self._known[key]


def measure(cache: FeatureCache, corpus: Corpus, cuts: Any) -> dict[str, Any]:
    """Return the measures of those utterances that were encoded."""
    readable = np.array(cache.readable(corpus, cuts), np.int64)
    chosen = readable[np.linspace(0, len(readable) - 1, min(UTTERANCES, len(readable))).astype(np.int64)]
    found: dict[str, Any] = {"utterances": len(chosen)}
    if len(chosen) < 2:
        return found
    vectors = cache.pooled(corpus, cuts.select(chosen))
    layers = [representation(vectors[:, layer]) for layer in range(vectors.shape[1])]
    with torch.no_grad():
        return found | {name: [round(layer[name], 5) for layer in layers] for name in layers[0]}
