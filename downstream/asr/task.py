"""Character recognition with SUPERB's BiLSTM-CTC head (Yang et al., 2021): greedy decoding, and on test, where a
language model is given, its beam search beside it.

Differs from the published runs: channel masks are as wide as there, but the frozen features come from a cache
in which an utterance is encoded by itself, not among its batch mates.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.downstream.asr.answers import search_if_there, spoken_text
from speechssl.downstream.asr.beam_search import BeamOptions, BeamSearch, check_model, read_spellings
from speechssl.downstream.asr.dataset import ALPHABETS, BLANK, SPECIAL, UNKNOWN, Alphabet, letters_of
from speechssl.downstream.asr.scoring import WithLanguageModel
from speechssl.errors import UserError
from speechssl.interfaces import Metric
from speechssl.losses.ctc import ctc_objective
from speechssl.metrics.error_rate import ErrorRates
from speechssl.nn.ctc_task import RecurrentCtcTask
from speechssl.nn.ctc_times import Spoken
from speechssl.nn.text import upper_words


class SpeechRecognition(RecurrentCtcTask):
    """Word and character error rates of utterances with text; `RecurrentCtcTask` explains the other arguments.

    Args:
        corpus: the prepared corpus.
        label: column of the manifest that holds the text.
        alphabet: "english" (A to Z and the apostrophe, as SUPERB), or "corpus": all letters of the train texts, with
            their accents and vowel signs (another protocol).
        lm: word n-gram model (.arpa, or KenLM's .bin): test is also decoded with it; None does not.
        lexicon: file with the spelling of every word that the language model may write.
        beam_size, beam_threshold, lm_weight, word_score: see `BeamOptions`.
    """

    name = "asr"
    kind = "speech recognition"
    superb: ClassVar[dict[str, str]] = {"wer": "min"}
    monitor = "wer"
    unknown, num_special = UNKNOWN, len(SPECIAL)

    def __init__(
        self,
        corpus: Corpus,
        *,
        label: str = "text",
        language: str | None = "en",
        alphabet: str = "english",
        lm: str | None = None,
        lexicon: str | None = None,
        beam_size: int = 5,
        beam_threshold: float = 25.0,
        lm_weight: float = 2.0,
        word_score: float = -1.0,
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
        batch_size: int = 16,
        eval_every: int = 2000,
        lrs: Sequence[float] = (1e-3, 1e-4),
        clip_norm: float = 1.0,
    ):
        super().__init__(
            corpus,
            label=label,
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
        if (lm is None) != (lexicon is None):
            missing, given = ("task.lexicon", "task.lm") if lexicon is None else ("task.lm", "task.lexicon")
            raise UserError(
                f"{given} needs {missing} beside it: words come from the lexicon, their odds from the model"
            )
        if alphabet not in ALPHABETS:
            raise UserError(f"task.alphabet expects {' or '.join(ALPHABETS)}, found {alphabet!r}")
        self.alphabet = Alphabet()
        if alphabet != "english":
            self.alphabet = Alphabet(self.from_train("letters", self._letters_of_train), upper_words)
        self.symbols = self.alphabet.symbols
        self.lm, self.lexicon = lm, lexicon
        self.beam = BeamOptions(beam_size, beam_threshold, lm_weight, word_score)

    def _letters_of_train(self) -> list[str]:
        table = self.corpus.table("train")
        texts = zip(table.column(self.label), self.is_spoken(table), strict=True)
        return letters_of([text for text, spoken in texts if spoken])

    def references(self, table: Any) -> list[str | None]:
        """Return the text of every utterance of a table as the alphabet writes it."""
        return self.alphabet.references(table.column(self.label))

    def encode(self, reference: str) -> Tensor:
        return self.alphabet.encode(reference)

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return the CTC loss, and the share of utterances with fewer frames than their text needs."""
        return ctc_objective(outputs, lengths, labels["tokens"], BLANK)

    def check(self) -> None:
        """Raise UserError also for a language model or lexicon that cannot be used."""
        super().check()
        if self.lm is not None:
            check_model(self.lm)
            read_spellings(self.lexicon, self.alphabet)

    def tune(self, metric: Metric) -> dict[str, Any]:
        """Return that test is decoded with the language model too, where there is one; dev never is."""
        return {} if self.lm is None else {"language_model": True}

    def metric(self, *, language_model: bool = False) -> Metric:
        decode = self.alphabet.transcribe
        if not language_model:
            return ErrorRates(decode)
        return WithLanguageModel(decode, BeamSearch(self.lm, self.lexicon, self.beam, self.alphabet))

    def predictions(
        self,
        outputs: Tensor,
        lengths: Tensor,
        frame_seconds: float,
        *,
        language_model: bool = False,
        **choices: Any,
    ) -> list[dict[str, Any]]:
        """Return the greedy "text", its "score", the words as "segments"; "text_lm" where a language model was used."""
        found = super().predictions(outputs, lengths, frame_seconds)
        if language_model and self._search is not None:
            texts = self._search(outputs, lengths)
            found = [one | {"text_lm": text} for one, text in zip(found, texts, strict=True)]
        return found

    def answer(self, spoken: list[Spoken]) -> dict[str, Any]:
        return spoken_text(spoken, self.symbols)

    @cached_property
    def _search(self) -> BeamSearch | None:
        return search_if_there(self.lm, self.lexicon, self.beam, self.alphabet)
