"""Phone recognition with SUPERB's linear CTC head (Yang et al., 2021, https://arxiv.org/abs/2105.01051).

Phones are ARPAbet with stress digits, words have their first pronunciation. Differs from the published runs: batches
are 32 utterances of about the same length at once, not 16 twice, and long ones do not lose half of their batch.
"""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from speechssl.data.cuts import Corpus
from speechssl.downstream.pr.dataset import (
    BLANK,
    KNOWN,
    LABEL,
    SPECIAL,
    SYMBOLS,
    UNKNOWN,
    UNKNOWN_WORD,
    encode,
    transcribe,
)
from speechssl.downstream.pr.head import LinearFrameHead
from speechssl.errors import UserError
from speechssl.interfaces import Metric, Remembered
from speechssl.losses.ctc import ctc_objective
from speechssl.metrics.error_rate import TokenErrorRate
from speechssl.nn.ctc_task import CtcTask
from speechssl.nn.lexicon import Lexicon, pronounce, read_lexicon

logger = logging.getLogger(__name__)

TEXT = "text"  # column that a lexicon turns into phones


class PhonemeRecognition(CtcTask):
    """Phone error rate; arguments that are not explained here are those of `CtcTask`.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest that holds lists of phones.
        lexicon: pronunciation file, or several in the order in which words are looked up: phones then come from the
            column `text`. None takes the column `label`.
        projection_size: width between the two linear layers.
    """

    name = "pr"
    kind = "phoneme recognition"
    superb: ClassVar[dict[str, str]] = {"per": "min"}
    monitor = "per"
    unknown, num_special = UNKNOWN, len(SPECIAL)
    symbols = SYMBOLS

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = LABEL,
        lexicon: str | Sequence[str] | None = None,
        language: str | None = "en",
        projection_size: int = 256,
        frame_ms: float | None = None,
        steps: int = 100_000,
        batch_size: int = 32,
        eval_every: int = 1000,
        lrs: Sequence[float] = (1e-1, 1e-2, 1e-3, 5e-4),
        clip_norm: float = 1.0,
    ):
        super().__init__(
            corpus,
            label=TEXT if lexicon else label,
            language=language,
            frame_ms=frame_ms,
            steps=steps,
            batch_size=batch_size,
            eval_every=eval_every,
            lrs=lrs,
            clip_norm=clip_norm,
        )
        paths = [lexicon] if isinstance(lexicon, str) else list(lexicon or ())
        if isinstance(corpus, Remembered):
            paths = []  # there are no references to spell
        self.lexicon: Lexicon | None = read_lexicon(paths, KNOWN) if paths else None
        self.projection_size = projection_size

    def references(self, table: Any) -> list[list[str] | None]:
        """Return the phones of every utterance of a table, from its text where there is a lexicon."""
        if self.lexicon is None:
            return [self._phones(value) for value in table.column(self.label)]
        texts = table.column(self.label)
        return [None if text is None else pronounce(str(text), self.lexicon) for text in texts]

    def _phones(self, value: Any) -> list[str] | None:
        if value is None or isinstance(value, list):
            return value
        raise UserError(f"phoneme recognition expects lists of phones in the column {self.label!r}, found {value!r}")

    def encode(self, reference: list[str]) -> Tensor:
        return encode(reference)

    def check(self) -> None:
        """Raise UserError where phones or a lexicon are missing or are others; log how many words the lexicon lacks."""
        if self.lexicon is None and not any(v is not None for v in self.corpus.table("train").column(self.label)):
            raise UserError(
                f"phoneme recognition needs the column {self.label!r} (lists of phones), which {self.corpus.name} "
                "lacks, or text and a pronunciation lexicon: task.lexicon=FILE"
            )
        for split in self.splits:
            self._check_symbols(split)
        super().check()

    def _check_symbols(self, split: str) -> None:
        table = self.corpus.table(split)
        kept = [spoken for spoken, own in zip(self.references(table), self.is_spoken(table), strict=True) if own]
        phones = [phone for spoken in kept if spoken is not None for phone in spoken]
        wrong = sorted(set(phones) - KNOWN - {UNKNOWN_WORD})
        if wrong:
            raise UserError(
                f"phoneme recognition expects ARPAbet phones with stress digits (AH0), found {', '.join(wrong[:5])} in "
                f"{split} of {self.corpus.name}; name another column with label=COLUMN, or a task.lexicon"
            )
        missing = phones.count(UNKNOWN_WORD)
        if missing:
            logger.warning("%d words of %s are not in the lexicon; each counts as one unknown phone", missing, split)

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        return LinearFrameHead(hidden_size, self.num_symbols, self.projection_size, self.stack(downsample_rate))

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the CTC loss, and the share of utterances with fewer frames than their phones need."""
        return ctc_objective(outputs, lengths, labels["tokens"], BLANK)

    def metric(self) -> Metric:
        return TokenErrorRate(transcribe, "per")
