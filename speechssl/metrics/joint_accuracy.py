"""Share of utterances of which every slot was found, in percent, as SUPERB scores intents."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class JointAccuracy:
    """Accumulates predictions of the class scores (B, C) of several slots, one after the other.

    Args:
        slots: names of the slots, in the order of their scores, with the names of their classes.
    """

    def __init__(self, slots: Mapping[str, Sequence[str]]):
        self.slots = {name: list(classes) for name, classes in slots.items()}
        self._records: list[dict[str, Any]] = []

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds per utterance the class of every slot by name."""
        parts = outputs.split([len(classes) for classes in self.slots.values()], dim=-1)
        best = torch.stack([part.argmax(dim=-1) for part in parts], dim=1).tolist()
        for name, reference, numbers in zip(ids, labels["reference"], best, strict=True):
            found = {slot: classes[n] for (slot, classes), n in zip(self.slots.items(), numbers, strict=True)}
            right = int(found == reference)
            self._records.append(
                {"id": name, "reference": reference, "hypothesis": found, "numerator": right, "denominator": 1}
            )

    def compute(self) -> dict[str, float]:
        """Return the joint accuracy, and where there are several slots that of each of them."""
        count = max(1, len(self._records))
        rates = {"acc": 100.0 * sum(record["numerator"] for record in self._records) / count}
        for slot in self.slots if len(self.slots) > 1 else ():
            right = sum(record["reference"][slot] == record["hypothesis"][slot] for record in self._records)
            rates[f"acc_{slot}"] = 100.0 * right / count
        return rates

    def records(self) -> list[dict[str, Any]]:
        return self._records
