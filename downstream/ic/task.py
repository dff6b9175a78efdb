"""Intent classification with SUPERB's linear head (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

An intent is a value for each of several slots (Fluent Speech Commands: action, object, location; Lugosch et al., 2019).
One head scores the values of all slots; the loss is the sum of a cross entropy per slot, and an utterance is right if
all of its slots are. No differences from the published runs are known.
"""

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.ic.dataset import LABEL, as_slots
from speechssl.errors import UserError
from speechssl.interfaces import Examples, Metric
from speechssl.metrics.joint_accuracy import JointAccuracy
from speechssl.nn.classification import UtteranceClassification, best_of, ranked


class IntentClassification(UtteranceClassification):
    """Several slots per utterance; see `UtteranceClassification` for the arguments.

    `classes` are all values of all slots, written `slot=value`; `slots` has them by slot, in the same order.
    """

    name = "ic"
    kind = "intent classification"
    superb: ClassVar[dict[str, str]] = {"acc": "max"}

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        projection_size: int = 256,
        pooling: str = "mean",
        steps: int = 200_000,
        batch_size: int = 32,
        eval_every: int = 5000,
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5),
        clip_norm: float = 1.0,
    ):
        super().__init__(
            corpus,
            label=label,
            balance=False,
            projection_size=projection_size,
            pooling=pooling,
            steps=steps,
            batch_size=batch_size,
            eval_every=eval_every,
            lrs=lrs,
            clip_norm=clip_norm,
        )
        self.slots: dict[str, list[str]] = {}
        for slot, _, value in (name.partition("=") for name in self.classes):
            self.slots.setdefault(slot, []).append(value)

    def _classes(self) -> list[str]:
        """Return the classes by slot, then value: the order of the slots of a reference."""
        return sorted(super()._classes(), key=lambda name: name.partition("="))

    def found_classes(self, split: str) -> set[str]:
        """Return `slot=value` for all values of all slots of a split."""
        return {f"{slot}={value}" for slots in self._intents(split) for slot, value in (slots or {}).items()}

    def _intents(self, split: str) -> list[dict[str, str] | None]:
        """Return the slots of every utterance, None without intent; all have the same slots, in sorted order."""
        values = self.corpus.table(split).column(self.label)
        intents = [as_slots(value) for value in values]
        first = next((slots for slots in map(as_slots, self.corpus.table("train").column(self.label)) if slots), {})
        for value, slots in zip(values, intents, strict=True):
            if slots is not None and (slots.keys() != first.keys() or any("=" in slot for slot in slots)):
                raise UserError(
                    f"{self.kind} expects {{slot: value}} with the same slots everywhere (here {', '.join(first)}), or "
                    f"a name, in the column {self.label!r}; {split} of {self.corpus.name} has {value!r}"
                )
        return [None if slots is None else dict(sorted(slots.items())) for slots in intents]

    def dataset(self, split: str) -> Examples:
        """Return the utterances with an intent; "class" has a number per slot, -1 for a value that train lacks."""
        intents = self._intents(split)
        kept = [i for i, slots in enumerate(intents) if slots is not None]
        if not kept:
            raise UserError(f"no utterance in {split} of {self.corpus.name} has a value in the column {self.label!r}")
        numbers = {slot: {value: n for n, value in enumerate(values)} for slot, values in self.slots.items()}
        reference = [intents[i] for i in kept]
        classes = [[numbers[slot].get(value, -1) for slot, value in slots.items()] for slots in reference]
        return Examples(self.corpus.table(split).select(kept), {"class": classes, "reference": reference})

    def answers(self, split: str) -> list[Hashable]:
        return [tuple(slots.values()) for slots in super().answers(split)]

    def _utterances_of(self, split: str, names: set[str]) -> int:
        written = [{f"{slot}={value}" for slot, value in (slots or {}).items()} for slots in self._intents(split)]
        return sum(not names.isdisjoint(own) for own in written)

    def sample_weights(self, examples: Examples) -> list[float] | None:
        return None

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the sum over slots of the mean cross entropy of their logits, which lie side by side in (B, C)."""
        target = torch.as_tensor(labels["class"], device=outputs.device)  # (B, slots)
        parts = outputs.split([len(values) for values in self.slots.values()], dim=-1)
        losses = [F.cross_entropy(part, target[:, n], ignore_index=-1) for n, part in enumerate(parts)]
        return {"loss": torch.stack(losses).sum()}

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return "slots": for each of them the best "label", its "score" and the "scores" of all its values."""
        parts = outputs.split([len(values) for values in self.slots.values()], dim=-1)
        found = [
            ranked(part, part.float().softmax(dim=-1), values)
            for part, values in zip(parts, self.slots.values(), strict=True)
        ]
        return [
            {"slots": {slot: best_of(scores) for slot, scores in zip(self.slots, row, strict=True)}}
            for row in zip(*found, strict=True)
        ]

    def metric(self) -> Metric:
        return JointAccuracy(self.slots)
