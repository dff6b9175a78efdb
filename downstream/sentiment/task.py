"""Sentiment analysis with SUPERB's linear head, scored as SLUE does (Shon et al., 2022,
https://arxiv.org/abs/2111.10367).

Differs from SLUE's baselines, which fine-tune the whole encoder: here it is frozen, unless the benchmark is asked to
fine-tune.
"""

from collections.abc import Sequence

from speechssl.data.cuts import Corpus
from speechssl.downstream.sentiment.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.metrics.class_scores import MacroF1
from speechssl.nn.classification import UtteranceClassification


class SentimentAnalysis(UtteranceClassification):
    """One sentiment per utterance; see `UtteranceClassification` for the arguments."""

    name = "sentiment"
    kind = "sentiment analysis"
    monitor = "macro_f1"

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        balance: bool | None = False,
        projection_size: int = 256,
        pooling: str = "mean",
        steps: int = 30_000,
        batch_size: int = 32,
        eval_every: int = 1000,
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

    def chance(self) -> float | None:
        """Return macro F1 on test of the class that is most frequent in train."""
        share = (super().chance() or 0.0) / 100
        return 100.0 * 2 * share / (1 + share) / len({*self.answers("test"), self.constant_answer()})

    def metric(self) -> Metric:
        return MacroF1(self.classes)
