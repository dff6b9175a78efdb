"""Word, character and token error rates: edits over reference length, summed over the corpus, in percent."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein
from torch import Tensor


def edit_distance(reference: Sequence, hypothesis: Sequence) -> int:
    """Return the smallest number of substitutions, deletions and insertions between two sequences."""
    return Levenshtein.distance(reference, hypothesis)


def rate(errors: float, length: float) -> float:
    """Return 100 * errors / length; without any reference every inserted token counts as a whole error."""
    return 100.0 * errors / max(length, 1)


class ErrorRates:
    """Accumulates word and character errors of decoded text.

    Args:
        decode: turns outputs (B, T, V) and lengths (B,) into B strings of words separated by blanks.
    """

    def __init__(self, decode: Callable[[Tensor, Tensor], Iterable[str]]):
        self.decode = decode
        self._records: list[dict[str, Any]] = []
        self._character_errors = self._characters = 0

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds the text of each utterance."""
        for name, reference, found in zip(ids, labels["reference"], self.decode(outputs, lengths), strict=True):
            self._character_errors += edit_distance(reference, found)
            self._characters += len(reference)
            words = reference.split()
            self._records.append(
                {
                    "id": name,
                    "reference": reference,
                    "hypothesis": found,
                    "numerator": edit_distance(words, found.split()),
                    "denominator": len(words),
                }
            )

    def compute(self) -> dict[str, float]:
        errors = sum(record["numerator"] for record in self._records)
        words = sum(record["denominator"] for record in self._records)
        return {"wer": rate(errors, words), "cer": rate(self._character_errors, self._characters)}

    def records(self) -> list[dict[str, Any]]:
        return self._records


class TokenErrorRate:
    """Accumulates errors of decoded sequences, such as phones.

    Args:
        decode: turns outputs (B, T, V) and lengths (B,) into B lists of tokens.
        name: of the metric.
    """

    def __init__(self, decode: Callable[[Tensor, Tensor], Iterable[list[str]]], name: str):
        self.decode, self.name = decode, name
        self._records: list[dict[str, Any]] = []

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds the tokens of each utterance."""
        for name, reference, found in zip(ids, labels["reference"], self.decode(outputs, lengths), strict=True):
            self._records.append(
                {
                    "id": name,
                    "reference": " ".join(reference),
                    "hypothesis": " ".join(found),
                    "numerator": edit_distance(reference, found),
                    "denominator": len(reference),
                }
            )

    def compute(self) -> dict[str, float]:
        errors = sum(record["numerator"] for record in self._records)
        return {self.name: rate(errors, sum(record["denominator"] for record in self._records))}

    def records(self) -> list[dict[str, Any]]:
        return self._records
