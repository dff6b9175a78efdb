"""What all tasks with one label per utterance share: classes, head and loss."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples
from speechssl.nn.pooling import check_pooling
from speechssl.nn.utterance_head import UtteranceHead

DECIMALS = 6  # of scores that are written
IMBALANCED = 2.0  # classes are drawn evenly where the largest has more than this many times the smallest's utterances


class UtteranceClassification(DownstreamTask):
    """One class per utterance, SUPERB's linear head, cross entropy.

    The classes are those of the train split, in sorted order. Utterances without a label are left out. Those of a class
    that training never saw cannot be recognised: `unseen="refuse"` refuses such a corpus before any work, "count"
    counts them as errors.

    Args:
        corpus: with `name` and `table(split)` (a `speechssl.data.cuts.Corpus`).
        label: column of the manifest that holds the class.
        balance: draw train utterances with replacement so that every class is equally frequent; None does so
            only where the largest class has more than twice the utterances of the smallest.
        projection_size: width of the head; 0 = a single linear layer.
        pooling: over time, "mean" or "mean_std" (mean and standard deviation; another protocol).
        steps: optimizer steps of head training.
        batch_size: utterances per step.
        eval_every: steps between two evaluations on dev.
        lrs: learning rates of the grid; the best on dev is kept.
        clip_norm: largest gradient norm of a head; 0 does not clip.
    """

    monitor = "acc"
    mode = "max"
    pooled = True
    kind: ClassVar[str]  # what the labels are, for messages
    unseen: str = "refuse"  # or "count"

    def __init__(
        self,
        corpus: Any,
        *,
        label: str,
        balance: bool | None,
        projection_size: int,
        pooling: str,
        steps: int,
        batch_size: int,
        eval_every: int,
        lrs: Sequence[float],
        clip_norm: float,
    ):
        self.corpus, self.label, self.balance = corpus, label, balance
        self.projection_size, self.pooling = projection_size, check_pooling(pooling)
        self.steps, self.batch_size, self.eval_every = steps, batch_size, eval_every
        self.lrs, self.clip_norm = tuple(lrs), clip_norm
        self.classes = self.from_train("classes", self._classes)
        self.index = {name: number for number, name in enumerate(self.classes)}

    def _classes(self) -> list[str]:
        found = self.found_classes("train")
        if len(found) < 2:
            raise UserError(
                f"{self.kind} needs at least two classes in the column {self.label!r} of the train split of "
                f"{self.corpus.name}, found {len(found)}; name the right column with label=COLUMN"
            )
        return sorted(found)

    def found_classes(self, split: str) -> set[str]:
        """Return the names of all classes of a split."""
        return {str(name) for name in self.corpus.table(split).column(self.label) if name is not None}

    def dataset(self, split: str) -> Examples:
        """Return the labelled utterances of a split; "class" is -1 for a class that training never saw."""
        table = self.corpus.table(split)
        names = table.column(self.label)
        kept = [i for i, name in enumerate(names) if name is not None]
        if not kept:
            raise UserError(f"no utterance in {split} of {self.corpus.name} has a value in the column {self.label!r}")
        reference = [str(names[i]) for i in kept]
        return Examples(
            table.select(kept), {"class": [self.index.get(n, -1) for n in reference], "reference": reference}
        )

    def check(self) -> None:
        """Raise UserError for a split without labels, a class without a name, or classes that training never saw."""
        for split in self.splits:
            if not all(name.strip() for name in self.found_classes(split)):
                raise UserError(
                    f"{self.kind} found utterances in {split} of {self.corpus.name} whose {self.label!r} is empty; "
                    "give them a class, or none at all (null) to leave them out"
                )
        unseen = {split: sorted(self.found_classes(split) - set(self.classes)) for split in self.splits}
        for split, names in unseen.items():
            self.dataset(split)
            if names and self.unseen == "refuse":
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                raise UserError(
                    f"{self.kind} can only recognise classes of train, but {split} of {self.corpus.name} has "
                    f"{len(names)} more in {self._utterances_of(split, set(names))} utterances (column {self.label!r}: "
                    f"{some}); {self._remedy()}"
                )

    def _utterances_of(self, split: str, names: set[str]) -> int:
        return sum(str(name) in names for name in self.corpus.table(split).column(self.label))

    def _remedy(self) -> str:
        return "put some of their utterances into train, or leave them out"

    def chance(self) -> float | None:
        """Return the accuracy on test of the class, or combination of classes, that is most frequent in train."""
        test = self.answers("test")
        return 100.0 * test.count(self.constant_answer()) / len(test)

    def constant_answer(self) -> Hashable:
        """Return the most frequent answer of train; of equally frequent ones the best on test, so as not to flatter."""
        seen, test = Counter(self.answers("train")), Counter(self.answers("test"))
        most = max(seen.values())
        return max((answer for answer, count in seen.items() if count == most), key=lambda answer: test[answer])

    def answers(self, split: str) -> list[Hashable]:
        """Return the right answer to every utterance of a split."""
        return self.dataset(split).labels["reference"]

    def sample_weights(self, examples: Examples) -> list[float] | None:
        """Return 1 / count(class) per utterance where classes are drawn evenly, else None."""
        counts = Counter(examples.labels["class"])
        uneven = max(counts.values()) > IMBALANCED * min(counts.values())
        if not (uneven if self.balance is None else self.balance):
            return None
        return [1.0 / counts[number] for number in examples.labels["class"]]

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        return UtteranceHead(hidden_size, len(self.classes), self.projection_size, self.pooling)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the mean cross entropy of logits (B, C) against labels["class"] (B,)."""
        target = torch.as_tensor(labels["class"], device=outputs.device)
        return {"loss": F.cross_entropy(outputs, target, ignore_index=-1)}

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return "label", its "score" and the "scores" of all classes, the highest first; they sum to 1."""
        return [best_of(found) for found in ranked(outputs, outputs.float().softmax(dim=-1), self.classes)]


def ranked(outputs: Tensor, probabilities: Tensor, classes: Sequence[str]) -> list[dict[str, float]]:
    """Return {class: probability} of every utterance, in falling order of its outputs.

    Args:
        outputs, probabilities: (B, C).
        classes: names of the C classes.
    """
    order = outputs.argsort(dim=-1, descending=True, stable=True)
    values = probabilities.gather(-1, order).double()
    return [
        {classes[number]: round(value, DECIMALS) for number, value in zip(*row, strict=True)}
        for row in zip(order.tolist(), values.tolist(), strict=True)
    ]


def best_of(scores: dict[str, float]) -> dict[str, Any]:
    """Return {"label", "score", "scores"} of scores in falling order."""
    label = next(iter(scores))
    return {"label": label, "score": scores[label], "scores": scores}


def multi_hot(classes: Sequence[Sequence[int]], num_classes: int) -> Tensor:
    """Return (B, C) zeros and ones from the class numbers of every utterance."""
    rows = [row for row, own in enumerate(classes) for _ in own]
    target = torch.zeros(len(classes), num_classes)
    target[rows, [number for own in classes for number in own]] = 1.0
    return target
