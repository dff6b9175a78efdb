"""Emotion recognition with SUPERB's linear head (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

Differs from the published runs: an effective batch is 32 utterances at once, not 4 times 8.
"""

from collections.abc import Sequence
from typing import ClassVar

from speechssl.data.cuts import Corpus
from speechssl.downstream.er.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.metrics.class_scores import ClassScores
from speechssl.nn.classification import UtteranceClassification


class EmotionRecognition(UtteranceClassification):
    """One emotion per utterance; see `UtteranceClassification` for the arguments."""

    name = "er"
    kind = "emotion recognition"
    superb: ClassVar[dict[str, str]] = {"acc": "max"}

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
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
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
        return ClassScores(self.classes)
