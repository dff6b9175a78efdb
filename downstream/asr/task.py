"""Character recognition with SUPERB's BiLSTM-CTC head (Yang et al., 2021), greedy decoding, no language
model.

Differs from the published runs: channel masks are as wide as there, but the frozen features come from a cache
in which an utterance is encoded by itself, not among its batch mates.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus
from speechssl.downstream.asr.dataset import BLANK, SYMBOLS, decode, encode, greedy, normalise
from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples, Metric
from speechssl.losses.ctc import ctc_loss
from speechssl.metrics.error_rate import ErrorRates
from speechssl.nn.ctc_head import CtcHead
from speechssl.nn.spec_augment import SpecAugment


class SpeechRecognition(DownstreamTask):
    """Word and character error rates of utterances with text.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest that holds the text.
        language: only utterances of this language (its first two letters count) where the manifest names
            languages.
        projection_size: width between the features and the first LSTM.
        lstm_size: width of each LSTM direction.
        num_layers: LSTM layers.
        dropout: after every LSTM layer.
        frame_ms: neighbouring frames are joined up to this many milliseconds; null joins none.
        spec_augment: mask and warp the features in training.
        steps: optimizer steps of head training.
        batch_size: utterances per step, of about the same length.
        eval_every: steps between two evaluations on dev.
        lrs: learning rates of the grid; the best on dev is kept.
        clip_norm: largest gradient norm of a head; 0 does not clip.
    """

    name = "asr"
    monitor = "wer"
    mode = "min"
    pooled = False

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = "text",
        language: str | None = "en",
        projection_size: int = 1024,
        lstm_size: int = 1024,
        num_layers: int = 2,
        dropout: float = 0.2,
        frame_ms: float | None = None,
        spec_augment: bool = True,
        steps: int = 200_000,
        batch_size: int = 16,
        eval_every: int = 2000,
        lrs: Sequence[float] = (1e-3, 1e-4),
        clip_norm: float = 1.0,
    ):
        self.corpus, self.label, self.language = corpus, label, language
        self.sizes = {"projection_size": projection_size, "lstm_size": lstm_size, "num_layers": num_layers}
        self.dropout, self.frame_ms, self.spec_augment = dropout, frame_ms, spec_augment
        self.steps, self.batch_size, self.eval_every = steps, batch_size, eval_every
        self.lrs, self.clip_norm = tuple(lrs), clip_norm

    def dataset(self, split: str) -> Examples:
        """Return the utterances of a split that have text in the chosen language."""
        table = self.corpus.table(split)
        texts = [normalise(str(text)) if text is not None else None for text in table.column(self.label)]
        spoken = self._is_spoken(table.column("language"))
        kept = [i for i, text in enumerate(texts) if text is not None and spoken[i]]
        if split == "train":
            kept = [i for i in kept if texts[i]]
        if not kept:
            raise UserError(
                f"speech recognition found no utterance with text in {split} of {self.corpus.name} (column "
                f"{self.label!r}, language {self.language}); choose with label= and task.language="
            )
        reference = [texts[i] for i in kept]
        return Examples(table.select(kept), {"reference": reference, "tokens": [encode(text) for text in reference]})

    def _is_spoken(self, languages: list[str | None]) -> list[bool]:
        if self.language is None:
            return [True] * len(languages)
        wanted = self.language.lower()[:2]
        return [name is None or str(name).lower().startswith(wanted) for name in languages]

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        stack = 1 if self.frame_ms is None else max(1, int(self.frame_ms * 16 // downsample_rate))  # 16 samples a ms
        augment = SpecAugment() if self.spec_augment else None
        return CtcHead(hidden_size, len(SYMBOLS), **self.sizes, dropout=self.dropout, stack=stack, augment=augment)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the CTC loss, and the share of utterances with fewer frames than their text needs."""
        tokens = labels["tokens"]
        needed = torch.tensor([len(row) + int((row[1:] == row[:-1]).sum()) for row in tokens], device=lengths.device)
        too_short = (lengths < needed).float().mean()
        return {"loss": ctc_loss(outputs, lengths, tokens, BLANK), "too_short": too_short.detach()}

    def metric(self) -> Metric:
        return ErrorRates(transcribe)


def transcribe(outputs: Tensor, lengths: Tensor) -> list[str]:
    """Return the text of scores (B, T, V) with (B,) valid frames."""
    return [decode(symbols) for symbols in greedy(outputs, lengths)]
