"""Speaker identification with SUPERB's linear head and plain cross entropy (Yang et al., 2021).

Differs from the published runs: an effective batch is 32 utterances at once, not 4 times 8, and train
utterances are whole instead of random crops of at most 8 seconds, because their pooled features are cached.
"""

from collections.abc import Sequence
from typing import ClassVar

from speechssl.data.cuts import Corpus
from speechssl.downstream.sid.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.metrics.accuracy import Accuracy
from speechssl.nn.classification import UtteranceClassification


class SpeakerIdentification(UtteranceClassification):
    """One speaker per utterance, all known from training; see `UtteranceClassification` for the arguments."""

    name = "sid"
    kind = "speaker identification"
    superb: ClassVar[dict[str, str]] = {"acc": "max"}

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
