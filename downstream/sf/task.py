"""Slot filling with SUPERB's BiLSTM-CTC head (Yang et al., 2021, https://arxiv.org/abs/2105.01051; Lai et al., 2021).

The recogniser writes the words of a command and marks its slots: `BOOK A FLIGHT TO B-city PARIS E-city`. Differs from
the published runs: batches are 32 utterances of about the same length, and long ones do not lose half of their batch;
words are compared without punctuation wherever it stands.
"""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.sf.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.losses.ctc import ctc_objective
from speechssl.metrics.slots import SlotScores, type_f1
from speechssl.nn.tagged_task import TaggedTextTask
from speechssl.nn.tagged_text import BLANK, spans_of, written


class SlotFilling(TaggedTextTask):
    """Text with slots; see `TaggedTextTask` for the arguments."""

    name = "sf"
    kind = "slot filling"
    superb: ClassVar[dict[str, str]] = {"slot_type_f1": "max", "slot_value_cer": "min"}
    monitor = "slot_type_f1"
    mode = "max"

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        unseen: str = "refuse",
        language: str | None = "en",
        projection_size: int = 1024,
        lstm_size: int = 1024,
        num_layers: int = 2,
        dropout: float = 0.2,
        frame_ms: float | None = None,
        normalise: bool = False,
        spec_augment: bool = True,
        mask_channels: int = 49,
        mask_frames: int = 39,
        steps: int = 200_000,
        batch_size: int = 32,
        eval_every: int = 2000,
        lrs: Sequence[float] = (1e-3, 1e-4, 1e-5),
        clip_norm: float = 1.0,
    ):
        super().__init__(
            corpus,
            label=label,
            unseen=unseen,
            language=language,
            projection_size=projection_size,
            lstm_size=lstm_size,
            num_layers=num_layers,
            dropout=dropout,
            frame_ms=frame_ms,
            normalise=normalise,
            spec_augment=spec_augment,
            mask_channels=mask_channels,
            mask_frames=mask_frames,
            steps=steps,
            batch_size=batch_size,
            eval_every=eval_every,
            lrs=lrs,
            clip_norm=clip_norm,
        )

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the CTC loss, and the share of utterances with fewer frames than their symbols need."""
        return ctc_objective(outputs, lengths, labels["tokens"], BLANK)

    def answers(self, split: str) -> list[tuple[Hashable, ...]]:
        """Return the names of the slots of every utterance."""
        references = self.dataset(split).labels["reference"]
        return [tuple(sorted({name for name, _ in spans_of(symbols)})) for symbols in references]

    def score(self, answers: Sequence[tuple[Hashable, ...]], constant: tuple[Hashable, ...]) -> float:
        found = [(name, "") for name in constant]
        counts = Counter(answers)
        total = sum(count * type_f1([(name, "") for name in answer], found) for answer, count in counts.items())
        return 100.0 * total / len(answers)

    def metric(self) -> Metric:
        return SlotScores(self.transcribe, spans_of, written)
