"""Audio event classification with SUPERB's linear head: what sounds in a clip.

One event per clip as in ESC-50 (Piczak, 2015, https://doi.org/10.1145/2733373.2806390): cross entropy, accuracy,
mean over the folds given with the corpus. Any number of events as in AudioSet (Gemmeke et al., 2017): binary cross
entropy per class, mean average precision. Differs from the published use of the folds: learning rate and number of
steps are selected on one of the training folds, then the head is trained anew on all of them; nothing is selected on
test.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.aec.dataset import find_column
from speechssl.errors import UserError
from speechssl.interfaces import Examples, Metric
from speechssl.metrics.accuracy import Accuracy
from speechssl.metrics.average_precision import MeanAveragePrecision
from speechssl.nn.classification import UtteranceClassification, multi_hot, ranked


class AudioEventClassification(UtteranceClassification):
    """Events of a clip; arguments that are not explained here are those of `UtteranceClassification`.

    Args:
        corpus: with events in the column `label` or, as lists, `labels`.
        label: another column; None = `labels` where there are lists to learn, else `label`.
        multi_label: any number of events per clip; None follows the corpus.
        refit: train anew on train and dev once dev has selected; None does so where the corpus is a given fold.
    """

    name = "aec"
    kind = "audio event classification"
    refit = True

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str | None = None,
        multi_label: bool | None = None,
        refit: bool | None = None,
        balance: bool | None = None,
        projection_size: int = 256,
        pooling: str = "mean",
        steps: int = 10_000,
        batch_size: int = 32,
        eval_every: int = 250,
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4),
        clip_norm: float = 1.0,
    ):
        self.corpus = corpus
        label, self.multi_label = self.from_train("column", lambda: find_column(corpus, label, multi_label))
        self.refit = bool(corpus.fold) if refit is None else refit
        if self.multi_label:
            self.monitor, self.unseen = "map", "count"
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

    def found_classes(self, split: str) -> set[str]:
        """Return the names of all events of a split."""
        if not self.multi_label:
            return super().found_classes(split)
        return {str(name) for names in self.corpus.table(split).column(self.label) for name in names or ()}

    def dataset(self, split: str) -> Examples:
        """Return the labelled clips of a split; "classes" are the numbers of events that training knows.

        A clip with an empty list is labelled: it has none of the events.
        """
        if not self.multi_label:
            return super().dataset(split)
        table = self.corpus.table(split)
        lists = table.column(self.label)
        kept = [i for i, names in enumerate(lists) if names is not None]
        reference = [[str(name) for name in lists[i]] for i in kept]
        classes = [sorted({self.index[name] for name in names if name in self.index}) for names in reference]
        if not any(classes):
            raise UserError(
                f"no clip in {split} of {self.corpus.name} has an event in the column {self.label!r} that is also in "
                "the train split"
            )
        return Examples(table.select(kept), {"classes": classes, "reference": reference})

    def sample_weights(self, examples: Examples) -> list[float] | None:
        """Return None for plain shuffling, else weights that draw the classes evenly.

        With several labels that is the sum of 1 / count over the clip's classes (0 for a clip without any), and only
        done where `balance` asks for it.
        """
        if not self.multi_label:
            return super().sample_weights(examples)
        if not self.balance:
            return None
        counts = multi_hot(examples.labels["classes"], len(self.classes)).sum(dim=0).tolist()
        return [sum(1.0 / counts[number] for number in own) for own in examples.labels["classes"]]

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the cross entropy of logits (B, C): of one class, or binary and averaged over all (B, C)."""
        if not self.multi_label:
            return super().loss(outputs, lengths, labels)
        target = multi_hot(labels["classes"], len(self.classes)).to(outputs.device)
        return {"loss": F.binary_cross_entropy_with_logits(outputs.float(), target)}

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, *, threshold: float = 0.5, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return the one "label" and its "score", or all "labels" whose probability is above `threshold`; "scores".

        Probabilities of several labels are each of their own: they sum to nothing in particular.
        """
        if not self.multi_label:
            return super().predictions(outputs, lengths, frame_seconds)
        found = ranked(outputs, outputs.float().sigmoid(), self.classes)
        return [
            {"labels": [n for n, value in scores.items() if value > threshold], "scores": scores} for scores in found
        ]

    def chance(self) -> float | None:
        """Return the accuracy of the most frequent event of train, or the mAP of equal scores for all clips."""
        if not self.multi_label:
            return super().chance()
        test, metric = self.dataset("test"), self.metric()
        count = len(test.labels["reference"])
        metric.update(torch.zeros(count, len(self.classes)), torch.ones(count), test.labels, [""] * count)
        return metric.compute()["map"]

    def metric(self) -> Metric:
        return MeanAveragePrecision(self.classes) if self.multi_label else Accuracy(self.classes)
