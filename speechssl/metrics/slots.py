"""Scores of slots found in speech, as SUPERB defines them (Yang et al., 2021; Lai et al., 2021), in percent.

`slot_type_f1`: F1 between the sets of slot names of an utterance, 1 where both are empty, 0 where one is; mean over
utterances. `slot_value_cer` and `slot_value_wer`: every reference slot is compared with the value of the same name that
is nearest to it (nothing where the name was not found), edits over reference length, summed over the corpus.
`slot_edit_f1`: a reference slot is right if one of the same name has exactly its value; a wrong value counts as both
missed and falsely found, a slot of a name that the utterance has not as falsely found (the toolkit's "full" variant).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from speechssl.metrics.error_rate import edit_distance, rate

Slot = tuple[str, str]  # name and value
Tagged = Any  # what the recogniser finds in an utterance


def by_name(slots: Iterable[Slot]) -> dict[str, list[str]]:
    """Return the values of every name."""
    found: dict[str, list[str]] = {}
    for name, value in slots:
        found.setdefault(name, []).append(value)
    return found


def type_f1(reference: Iterable[Slot], found: Iterable[Slot]) -> float:
    """Return F1 in 0..1 between two sets of slot names."""
    wanted, names = {name for name, _ in reference}, {name for name, _ in found}
    if not wanted and not names:
        return 1.0
    return 2.0 * len(wanted & names) / (len(wanted) + len(names))


def nearest_errors(value: Sequence, candidates: Sequence[Sequence]) -> int:
    """Return the edits between a value and the candidate that has the fewest; all of it without any."""
    return min((edit_distance(value, candidate) for candidate in candidates), default=len(value))


def exact(reference: dict[str, list[str]], found: dict[str, list[str]]) -> tuple[int, int]:
    """Return how many reference slots have their exact value among the found ones, and how many are falsely found."""
    right = sum(value in found.get(name, ()) for name, values in reference.items() for value in values)
    wrong = sum(value not in found[name] for name, values in reference.items() if name in found for value in values)
    return right, wrong + sum(len(values) for name, values in found.items() if name not in reference)


class SlotScores:
    """Accumulates slots of decoded utterances; the main metric is `slot_type_f1`.

    Args:
        decode: turns outputs (B, T, V) and lengths (B,) into what was found in each of B utterances.
        slots_of: returns its slots, of what was found and of a reference.
        write: returns it as text for people.
    """

    def __init__(
        self,
        decode: Callable[[Tensor, Tensor], Iterable[Tagged]],
        slots_of: Callable[[Tagged], list[Slot]],
        write: Callable[[Tagged], str],
    ):
        self.decode, self.slots_of, self.write = decode, slots_of, write
        self._records: list[dict[str, Any]] = []
        self._errors = {"slot_value_cer": 0, "slot_value_wer": 0}
        self._sizes = {"slot_value_cer": 0, "slot_value_wer": 0}
        self._right = self._wrong = self._expected = 0

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        """Add a batch; labels["reference"] holds what each utterance says, in the form that `decode` returns."""
        for name, reference, found in zip(ids, labels["reference"], self.decode(outputs, lengths), strict=True):
            wanted, slots = self.slots_of(reference), self.slots_of(found)
            self._add(by_name(wanted), by_name(slots))
            self._records.append(
                {
                    "id": name,
                    "reference": self.write(reference),
                    "hypothesis": self.write(found),
                    "numerator": type_f1(wanted, slots),
                    "denominator": 1,
                }
            )

    def _add(self, reference: dict[str, list[str]], found: dict[str, list[str]]) -> None:
        for name, values in reference.items():
            candidates = found.get(name, [])
            for value in values:
                self._count("slot_value_cer", value, candidates)
                self._count("slot_value_wer", value.split(), [candidate.split() for candidate in candidates])
        right, wrong = exact(reference, found)
        self._right, self._wrong = self._right + right, self._wrong + wrong
        self._expected += sum(len(values) for values in reference.values())

    def _count(self, metric: str, value: Sequence, candidates: Sequence[Sequence]) -> None:
        self._errors[metric] += nearest_errors(value, candidates)
        self._sizes[metric] += len(value)

    def compute(self) -> dict[str, float]:
        score = sum(record["numerator"] for record in self._records)
        values = {name: rate(errors, self._sizes[name]) for name, errors in self._errors.items()}
        edits = self._expected + self._right + self._wrong  # 2 right + missed + falsely found
        return {
            "slot_type_f1": 100.0 * score / max(1, len(self._records)),
            **values,
            "slot_edit_f1": 200.0 * self._right / max(1, edits),
        }

    def records(self) -> list[dict[str, Any]]:
        return self._records
