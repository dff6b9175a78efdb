"""Classification by any column of a manifest, with SUPERB's linear head (Yang et al., 2021): what most people try first
on recordings of their own.
"""

from collections.abc import Sequence

from speechssl.data.cuts import Corpus
from speechssl.downstream.classify.dataset import LABEL
from speechssl.errors import UserError
from speechssl.interfaces import Metric
from speechssl.metrics.class_scores import ClassScores
from speechssl.nn.classification import UtteranceClassification

UNSEEN = ("refuse", "count")


class Classification(UtteranceClassification):
    """One class per utterance; arguments that are not explained here are those of `UtteranceClassification`.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest that holds the class.
        unseen: what is done about dev or test utterances of classes that train lacks: "refuse", or "count" as errors.
    """

    name = "classify"
    kind = "classification"

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        unseen: str = "refuse",
        balance: bool | None = None,
        projection_size: int = 256,
        pooling: str = "mean",
        steps: int = 30_000,
        batch_size: int = 32,
        eval_every: int = 500,
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
        clip_norm: float = 1.0,
    ):
        if unseen not in UNSEEN:
            raise UserError(f"task.unseen expects {' or '.join(UNSEEN)}, found {unseen!r}")
        self.unseen = unseen
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

    def _remedy(self) -> str:
        return f"{super()._remedy()}, or count them as errors with task.unseen=count"

    def metric(self) -> Metric:
        return ClassScores(self.classes)
