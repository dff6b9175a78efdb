"""Language identification with SUPERB's linear head, as IndicSUPERB has it (Javed et al., 2022,
https://arxiv.org/abs/2208.11761).

Differs from it: the training is that of SUPERB's other utterance tasks.
"""

from collections.abc import Sequence

from speechssl.data.cuts import Corpus
from speechssl.downstream.lid.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.metrics.accuracy import Accuracy
from speechssl.nn.classification import UtteranceClassification


class LanguageIdentification(UtteranceClassification):
    """One language per utterance; see `UtteranceClassification` for the arguments."""

    name = "lid"
    kind = "language identification"

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        balance: bool | None = False,
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
