"""Error rates of greedy decoding, and on test those of beam search with a language model beside them."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from speechssl.metrics.error_rate import ErrorRates

Decode = Callable[[Tensor, Tensor], Iterable[str]]


class WithLanguageModel(ErrorRates):
    """Adds `wer_lm` and `cer_lm`, and to every record what was found with the language model.

    The main metric stays that of greedy decoding.

    Args:
        decode: greedy decoding.
        search: decoding with the language model.
    """

    def __init__(self, decode: Decode, search: Decode):
        super().__init__(decode)
        self._searched = ErrorRates(search)

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None:
        super().update(outputs, lengths, labels, ids)
        self._searched.update(outputs, lengths, labels, ids)

    def compute(self) -> dict[str, float]:
        return super().compute() | {f"{name}_lm": value for name, value in self._searched.compute().items()}

    def records(self) -> list[dict[str, Any]]:
        both = zip(super().records(), self._searched.records(), strict=True)
        return [greedy | {"hypothesis_lm": searched["hypothesis"]} for greedy, searched in both]
