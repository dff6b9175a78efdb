"""What all recognition tasks trained with CTC share: which utterances, how long a frame, head and checks."""

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.interfaces import DownstreamTask, Examples
from speechssl.nn.ctc_head import CtcHead
from speechssl.nn.ctc_times import Spoken, confidence, segment, timed
from speechssl.nn.spec_augment import SpecAugment

SAMPLES_PER_MS = 16
MOSTLY = 0.5  # share of unknown symbols in train above which the alphabet is not that of the text


class CtcTask(DownstreamTask):
    """Sequences of symbols, recognised without an alignment.

    A task says what an utterance's reference is (`references`) and how it becomes symbol numbers (`encode`). References
    that are empty are no use in training and left out of it.

    Args:
        corpus: with `name` and `table(split)` (a `speechssl.data.cuts.Corpus`).
        label: column of the manifest that holds what is recognised.
        language: only utterances of this language (its first two letters count) where the manifest names languages;
            None takes all.
        frame_ms: neighbouring frames are joined up to this many milliseconds; None joins none.
        steps: optimizer steps of head training.
        batch_size: utterances per step, of about the same length.
        eval_every: steps between two evaluations on dev.
        lrs: learning rates of the grid; the best on dev is kept.
        clip_norm: largest gradient norm of a head; 0 does not clip.
    """

    kind: ClassVar[str]  # what the task is, for messages
    unknown: ClassVar[int]  # index of the symbol that stands for all others
    num_special: ClassVar[int]  # symbols, the first ones, that are no part of an answer; number 0 is the blank
    symbols: Sequence[str]  # V, the blank included, in the order of the outputs
    mode = "min"

    def __init__(
        self,
        corpus: Any,
        *,
        label: str,
        language: str | None,
        frame_ms: float | None,
        steps: int,
        batch_size: int,
        eval_every: int,
        lrs: Sequence[float],
        clip_norm: float,
    ):
        self.corpus, self.label, self.language, self.frame_ms = corpus, label, language, frame_ms
        self.steps, self.batch_size, self.eval_every = steps, batch_size, eval_every
        self.lrs, self.clip_norm = tuple(lrs), clip_norm

    @property
    def num_symbols(self) -> int:
        return len(self.symbols)

    def references(self, table: Any) -> list[Any]:
        """Return what each utterance of a table says, None where that is not known."""
        raise NotImplementedError(f"{type(self).__name__} has to implement references(table)")

    def encode(self, reference: Any) -> Tensor:
        """Return the symbol numbers that CTC has to find."""
        raise NotImplementedError(f"{type(self).__name__} has to implement encode(reference)")

    def dataset(self, split: str) -> Examples:
        """Return the utterances of a split that have a reference in the chosen language."""
        table = self.corpus.table(split)
        references, spoken = self.references(table), self.is_spoken(table)
        kept = [i for i, reference in enumerate(references) if reference is not None and spoken[i]]
        if split == "train":
            kept = [i for i in kept if references[i]]
        if not kept:
            others = sorted({str(name) for name in table.column("language") if name is not None})
            there = f", there: {', '.join(others[:5])}" if others else ""
            raise UserError(
                f"{self.kind} found no utterance in {split} of {self.corpus.name} with something to recognise (column "
                f"{self.label!r}, language {self.language}{there}); choose with label= and task.language="
            )
        chosen = [references[i] for i in kept]
        return Examples(table.select(kept), {"reference": chosen, "tokens": [self.encode(found) for found in chosen]})

    def is_spoken(self, table: Any) -> list[bool]:
        """Return which utterances of a table are in the chosen language, or in none that is named."""
        languages = table.column("language")
        if self.language is None:
            return [True] * len(languages)
        wanted = self.language.lower()[:2]
        return [name is None or str(name).lower().startswith(wanted) for name in languages]

    def stack(self, downsample_rate: int) -> int:
        """Return how many frames of so many samples are joined."""
        return 1 if self.frame_ms is None else max(1, int(self.frame_ms * SAMPLES_PER_MS // downsample_rate))

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return what was said: "text", its "score", and "segments" with times.

        Args:
            outputs: (B, T', V).
            lengths: (B,) valid ones.
            frame_seconds: between two frames of the features, before any are joined.
            choices: none are needed.
        """
        joined = self.stack(round(frame_seconds * 1000 * SAMPLES_PER_MS))
        found = timed(outputs, lengths, 0, frame_seconds * joined)
        return [self.answer([one for one in spoken if one.number >= self.num_special]) for spoken in found]

    def answer(self, spoken: list[Spoken]) -> dict[str, Any]:
        """Return the answer of an utterance's symbols: here each of them is a segment, and blanks part the text."""
        segments = [segment(self.symbols[one.number], [one]) for one in spoken]
        text = " ".join(one["label"] for one in segments)
        return {"text": text, "score": confidence(spoken), "segments": segments}

    def check(self) -> None:
        """Raise UserError for a split without references, or for an alphabet that is not that of the text."""
        for split in self.splits:
            tokens = self.dataset(split).labels["tokens"]
            total = sum(len(row) for row in tokens)
            unknown = sum(int((row == self.unknown).sum()) for row in tokens)
            if split == "train" and unknown > MOSTLY * total:
                raise UserError(
                    f"{self.kind} knows {total - unknown} of the {total} symbols in the column {self.label!r} of train "
                    f"of {self.corpus.name}; it expects English (name another column with label=COLUMN)"
                )

    def chance(self) -> float | None:
        """Return 100: the empty answer leaves out every symbol."""
        return 100.0


class RecurrentCtcTask(CtcTask):
    """With SUPERB's head of two bidirectional LSTM layers.

    Args:
        corpus: see `CtcTask`.
        projection_size: width between the features and the first LSTM.
        lstm_size: width of each LSTM direction.
        num_layers: LSTM layers.
        dropout: after every LSTM layer.
        normalise: bring every channel of every utterance to mean 0 and deviation 1 before the head; not part of SUPERB.
        spec_augment: mask and warp the features in training.
        mask_channels: widest mask of SpecAugment in channels.
        mask_frames: longest mask of SpecAugment in frames, before any are joined.
        settings: see `CtcTask`.
    """

    def __init__(
        self,
        corpus: Any,
        *,
        projection_size: int,
        lstm_size: int,
        num_layers: int,
        dropout: float,
        normalise: bool,
        spec_augment: bool,
        mask_channels: int,
        mask_frames: int,
        **settings: Any,
    ):
        super().__init__(corpus, **settings)
        self.sizes = {"projection_size": projection_size, "lstm_size": lstm_size, "num_layers": num_layers}
        self.dropout, self.normalise, self.spec_augment = dropout, normalise, spec_augment
        self.masks = {"max_channels": mask_channels, "max_frames": mask_frames}

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        augment = SpecAugment(**self.masks) if self.spec_augment else None
        return CtcHead(
            hidden_size,
            self.num_symbols,
            **self.sizes,
            dropout=self.dropout,
            stack=self.stack(downsample_rate),
            augment=augment,
            normalise=self.normalise,
        )
