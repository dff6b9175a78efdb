"""Keyword spotting with SUPERB's linear head (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

Differs from the published runs: dev is scored as it is, not on a class-balanced resample, and features are
cached, so an utterance has the same features in every epoch (no random silence crops).
"""

from collections.abc import Sequence
from typing import ClassVar

from speechssl.data.cuts import Corpus
from speechssl.downstream.ks.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.metrics.accuracy import Accuracy
from speechssl.nn.classification import UtteranceClassification


class KeywordSpotting(UtteranceClassification):
    """One word per utterance; the arguments are explained in `UtteranceClassification`.

    `balance` left at None follows the corpus: the twelve classes of Speech Commands, most of them drawn from
    25 other words, are drawn evenly as in SUPERB; balanced corpora are shuffled.
    """

    name = "ks"
    kind = "keyword spotting"
    superb: ClassVar[dict[str, str]] = {"acc": "max"}

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        balance: bool | None = None,
        projection_size: int = 256,
        pooling: str = "mean",
        steps: int = 200_000,
        batch_size: int = 32,
        eval_every: int = 5000,
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
        clip_norm: float = 1.0,
    ):
        super().__init__(
            corpus,
            label=label,
            balance=balance,
            projection_size=projection_size,
            pooling=pooling,
            steps=steps,
            batch_size=batch_size,
            eval_every=eval_every,
            lrs=lrs,
            clip_norm=clip_norm,
        )

    def metric(self) -> Metric:
        return Accuracy(self.classes)
