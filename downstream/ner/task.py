"""Named entities found in speech with SUPERB's BiLSTM-CTC head, scored as SLUE does (Shon et al., 2022,
https://arxiv.org/abs/2111.10367).

The recogniser writes words and marks entities: `B-PLACE PARIS E-PLACE`. Differs from SLUE's baselines: the encoder is
frozen unless the benchmark is asked to fine-tune, every tag has a closing marker of its own, and words are upper-case.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.ner.dataset import LABEL
from speechssl.interfaces import Metric
from speechssl.losses.ctc import ctc_objective
from speechssl.metrics.entity_f1 import EntityF1, matches
from speechssl.nn.tagged_task import TaggedTextTask
from speechssl.nn.tagged_text import BLANK, spans_of, written


class NamedEntities(TaggedTextTask):
    """Text with named entities; see `TaggedTextTask` for the arguments."""

    name = "ner"
    kind = "named entity recognition"
    monitor = "f1"
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
        steps: int = 100_000,
        batch_size: int = 16,
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
        """Return the entities of every utterance."""
        return [tuple(sorted(spans_of(symbols))) for symbols in self.dataset(split).labels["reference"]]

    def score(self, answers: Sequence[tuple[Hashable, ...]], constant: tuple[Hashable, ...]) -> float:
        right = sum(matches(answer, constant) for answer in answers)
        total = sum(len(answer) + len(constant) for answer in answers)
        return 200.0 * right / max(1, total)

    def metric(self) -> Metric:
        return EntityF1(self.transcribe, spans_of, written)
