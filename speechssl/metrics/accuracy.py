"""Share of utterances whose highest class score is the right one, in percent."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


class Accuracy:
    """Accumulates predictions of class scores (B, C).

    Args:
        classes: names of the C classes.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)
        self._records: list[dict[str, Any]] = []

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds the name of each utterance's class."""
        for name, reference, best in zip(ids, labels["reference"], outputs.argmax(dim=-1).tolist(), strict=True):
            found = self.classes[best]
            self._records.append(
                {
                    "id": name,
                    "reference": reference,
                    "hypothesis": found,
                    "numerator": int(found == reference),
                    "denominator": 1,
                }
            )

    def compute(self) -> dict[str, float]:
        right = sum(record["numerator"] for record in self._records)
        return {"acc": 100.0 * right / max(1, len(self._records))}

    def records(self) -> list[dict[str, Any]]:
        return self._records
