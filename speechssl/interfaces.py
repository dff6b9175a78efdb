"""The contracts every family, task and loop of the project is written against.

Shape legend of the whole project: `B` batch, `S` samples, `T` frames, `F` mel bins, `N` patches, `D` hidden size,
`L` layers, `V` codebook size, `C` classes. Lengths are counts of valid samples or frames; padding is at the end.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.waveforms import check_rate, check_waveforms


class Features(NamedTuple):
    """What an upstream returns for a batch."""

    hidden_states: list[Tensor]  # num_layers + 1 of (B, T, D); [0] is the input to the first layer
    lengths: Tensor  # (B,) valid frames


_TENSORS = ("waveforms", "lengths", "seeds", "rms", "starts")  # of a batch


@dataclass
class Batch:
    """Utterances padded to one length, with all that randomness and training derive from."""

    waveforms: Tensor  # (B, S) float32 in [-1, 1], zero beyond each length
    lengths: Tensor  # (B,) samples
    ids: list[str]
    seeds: Tensor  # (B,) int64, one per utterance, from (seed, epoch, id): masks, crops and noise derive from them
    labels: dict[str, Any] = field(default_factory=dict)  # tensors or lists with one entry per utterance
    rms: Tensor | None = None  # (B,) root mean square of the whole utterance each (cropped) waveform comes from
    starts: Tensor | None = None  # (B,) sample of its utterance with which each waveform begins; None = 0
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # (id, reason) of utterances left out
    empty: bool = False  # every utterance was unreadable: the rows are silence that must not count

    def to(self, device: torch.device | str) -> "Batch":
        def move(value: Any) -> Any:
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        moved = {name: move(getattr(self, name)) for name in _TENSORS}
        return replace(self, labels={name: move(value) for name, value in self.labels.items()}, **moved)

    def pin_memory(self) -> "Batch":
        def pin(value: Any) -> Any:
            return value.pin_memory() if isinstance(value, Tensor) else value

        pinned = {name: pin(getattr(self, name)) for name in _TENSORS}
        return replace(self, labels={name: pin(value) for name, value in self.labels.items()}, **pinned)

    @property
    def seconds(self) -> float:
        """Seconds of valid audio at 16 kHz, padding excluded (a host sync when the batch is on a GPU)."""
        return 0.0 if self.empty else float(self.lengths.sum()) / 16000


class BatchStream(Protocol):
    """An endless, deterministic sequence of micro-batches that can be entered at any number."""

    def iterate(self, start: int, step: int = 1) -> Iterator[Batch]:
        """Yield micro-batches number `start`, `start + step`, `start + 2 step`, ... without end."""

    def once(self) -> Iterator[Batch]:
        """Yield every utterance exactly once, in a fixed order and with fixed seeds (for a dev split)."""


class Upstream(nn.Module):
    """Base class of every encoder: waveforms in, hidden states out, frontend inside.

    A family sets the attributes and implements `encode`. Padding must not change valid frames.
    """

    sample_rate: int = 16000  # Hz the waveforms must have
    downsample_rate: int  # samples per frame
    hidden_size: int  # D
    num_layers: int  # L
    essential: ClassVar[tuple[str, ...]] = ()  # tensors that weights to start from must have in the same shape
    min_samples: int = 800  # shorter utterances are zero-padded to this (50 ms at 16 kHz)

    family: str = ""  # set by the registry: with `config` it is what an exported folder needs to rebuild the model
    config: dict[str, Any]

    corpus_statistics: tuple[Tensor, Tensor] | None = None  # mean and std of a corpus, where it took them when loaded

    spectrogram_augment: Callable[[Tensor, Tensor], Tensor] | None = None  # set around a forward by fine-tuning only
    mask_value: float = 0.0  # of a normalised spectrogram cell that SpecAugment masks

    def augmented(self, features: Tensor, frames: Tensor) -> Tensor:
        """Return normalised features (B, T, F) with (B,) valid frames as fine-tuning augments them, else as they are.

        A family with a spectrogram calls this between its frontend and its encoder.
        """
        return features if self.spectrogram_augment is None else self.spectrogram_augment(features, frames)

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        """Encode (B, S) float32 waveforms with (B,) valid samples, each at least `min_samples` long."""
        raise NotImplementedError(f"{type(self).__name__} has to implement encode(waveforms, lengths)")

    def forward(
        self,
        waveforms: Tensor | Sequence[Tensor],
        lengths: Tensor | None = None,
        sample_rate: int | None = None,
    ) -> Features:
        """Return hidden states of a padded (B, S) tensor with lengths, or of a list of 1-D tensors.

        Args:
            waveforms: mono audio in [-1, 1] at `self.sample_rate`.
            lengths: (B,) valid samples; may be left out for a list, or for a tensor without padding.
            sample_rate: Hz; give it to have it checked.

        Raises:
            UserError: wrong rate, rank, dtype or lengths.
        """
        return self.encode(*self.checked(waveforms, lengths, sample_rate))

    def checked(
        self, waveforms: Tensor | Sequence[Tensor], lengths: Tensor | None = None, sample_rate: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return what `encode` takes, of what `forward` takes."""
        check_rate(self, self.sample_rate, sample_rate)
        waveforms, lengths = check_waveforms(waveforms, lengths)
        shortest = self.min_samples
        if waveforms.shape[1] < shortest:
            waveforms = nn.functional.pad(waveforms, (0, shortest - waveforms.shape[1]))
        return waveforms, lengths.clamp(min=shortest)

    def with_classifier(self, weight: Tensor, bias: Tensor) -> "Upstream | None":
        """Return a copy that has, as a fine-tuned model of its family does, a classifier of its own.

        Args:
            weight, bias: (C, D) and (C,), of class scores from the mean of the last hidden state over time.

        None where the family, or this model, has no place for such a classifier.
        """
        return None

    def statistics_frontend(self) -> nn.Module | None:
        """Return the frontend whose corpus mean and std the model still needs before it can encode, or None."""
        return None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take per-channel corpus statistics (F,) of `statistics_frontend()`; they travel in the state dict."""
        raise UserError(f"{type(self).__name__} uses no corpus statistics")


class Foreign(Protocol):
    """What a family exports as FOREIGN whose models come from another library, named `family:NAME`."""

    def check(self, name: str) -> None:
        """Raise UserError where the library, or what is named, is not there; loads nothing."""

    def load(self, name: str, **settings: Any) -> Upstream:
        """Return the model, with `config`: plain values that, with the tensors, tell which model it is."""


class Tokenizer(nn.Module):
    """Waveforms to discrete labels, one per patch of the spectrogram. In eval mode nothing in it ever changes.

    A family exports its kinds of tokenizers as TOKENIZERS, {kind: class}; with `config` a kind can be rebuilt.
    """

    sample_rate: int = 16000  # Hz the waveforms must have
    min_samples: int  # shortest waveform with a label
    num_codes: int  # V

    family: str = ""  # set by the registry, as the next two
    kind: str = ""
    config: dict[str, Any]

    def encode(self, waveforms: Tensor, lengths: Tensor, mask_rule: str) -> Tensor:
        """Return labels (B, N) int64, -1 on padding, of (B, S) waveforms with (B,) samples, each long enough."""
        raise NotImplementedError(f"{type(self).__name__} has to implement encode(waveforms, lengths, mask_rule)")

    @torch.no_grad()
    def tokenize(
        self,
        waveforms: Tensor | Sequence[Tensor],
        lengths: Tensor | None = None,
        mask_rule: str = "exact",
        sample_rate: int | None = None,
    ) -> Tensor:
        """Return labels (B, N) int64 in 0..V - 1, -1 on padding.

        Args:
            waveforms: mono audio in [-1, 1] at `self.sample_rate`: a padded (B, S) tensor or a list of 1-D tensors.
            lengths: (B,) valid samples.
            mask_rule: "exact", or "official" for the family's published way of finding padding.
            sample_rate: Hz; give it to have it checked.

        Raises:
            UserError: wrong input, audio that is too short for a label, or a tokenizer that is not ready.
        """
        check_rate(self, self.sample_rate, sample_rate)
        waveforms, lengths = check_waveforms(waveforms, lengths)
        shortest = int(lengths.min())
        if shortest < self.min_samples:
            raise UserError(
                f"{type(self).__name__} expects at least {self.min_samples} samples "
                f"({self.min_samples / self.sample_rate:g} s), found {shortest}; leave such clips out or pad them"
            )
        training = self.training
        self.eval()
        try:
            return self.encode(waveforms, lengths, mask_rule)
        finally:
            self.train(training)

    def statistics_frontend(self) -> nn.Module | None:
        """Return the frontend whose corpus mean and std the tokenizer still needs, or None."""
        return None

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take per-channel corpus statistics (F,) of `statistics_frontend()`; they travel in the state dict."""
        raise UserError(f"{type(self).__name__} uses no corpus statistics")


class PretrainTask(nn.Module):
    """One training objective around an upstream. Also the base of what the loop trains on cached features."""

    upstream: Upstream  # what gets exported
    tokenizer: Tokenizer | None = None  # what gets exported instead, where the objective trains one
    crop_multiple: int = 1  # samples: random crops start at multiples of it

    def on_start(self, batches: BatchStream) -> None:
        """Run once before the first step, not again on resume: codebook initialisation, checks of parents."""

    def facts(self) -> dict[str, Any]:
        """Return what the lineage and the export should tell of the training, as plain values."""
        return {}

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """Return "loss" (scalar to minimise) and detached scalars to log.

        An optional "weight" is the number of elements the loss is a mean over. With it, micro-batches and ranks are
        averaged by element, so that accumulation and data parallelism equal one large batch. It is not logged.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement forward(batch)")

    def snapshot(self, batch: Batch) -> dict[str, Tensor]:
        """Return the arrays figures are drawn from, for example clean, altered and reconstructed features."""
        return {}

    def after_step(self, step: int) -> None:
        """Run after optimizer step number `step` (from 1): exponential averages, annealing."""

    def gradient_groups(self) -> list[list[nn.Parameter]]:
        """Return groups of parameters whose gradient norms are clipped separately (default: one group of all)."""
        return [[p for p in self.parameters() if p.requires_grad]]


class TokenizerFit:
    """Makes a tokenizer ready on a corpus without training it, by drawing or clustering its codes."""

    tokenizer: Tokenizer

    def fit(self, batches: BatchStream) -> None:
        """Read as much of the corpus as it takes. The tokenizer has its statistics by then."""
        raise NotImplementedError(f"{type(self).__name__} has to implement fit(batches)")

    def facts(self) -> dict[str, Any]:
        """Return what the lineage should tell of it, as plain values."""
        return {}


@dataclass
class Labelling:
    """Labels of every utterance of a corpus, whole and as it is; the core writes them as compact shards."""

    tokenizer: Tokenizer
    tokenizer_sha256: str
    known: dict[str, Any] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Return what the lineage should tell of it, as plain values."""
        return self.known


class Labels(Protocol):
    """Stored labels, by utterance."""

    num_codes: int
    tokenizer_sha256: str

    def rows(self, ids: Sequence[str], starts: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Return (B, max(counts)) int64: `counts` labels of each utterance from label `starts` on, then -1.

        Raises:
            UserError: an utterance without labels, or with fewer than were asked for.
        """


@dataclass
class Parent:
    """What an earlier stage, or a model that is given, has to offer to a stage.

    Attributes:
        name: of the stage or the model.
        content: in eval mode, on the CPU.
        sha256: of what is on disk.
        facts: what its lineage tells, such as "labels_seen".
    """

    name: str
    content: Upstream | Tokenizer | Labels
    sha256: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Builders:
    """How a family that needs several stages makes its models: the core remembers what they were made of."""

    upstream: Callable[[], Upstream]  # as configured, with new initial weights
    tokenizer: Callable[..., Tokenizer]  # kind and constructor arguments


@dataclass
class Stage:
    """One piece of work of a family that needs several in a row; a one-stage family never mentions it.

    Attributes:
        name: part of its folder's name.
        build: makes the work from the named parents; called within a seed of its own when it is needed.
        parents: names of earlier stages.
        trainer, optim: settings that differ from those of the run.
        settings: all that the result depends on beside parents, trainer and optim, as plain values. Those of a
            training are the arguments of its objective.
        initialise: whether `init_from` is for this stage.
    """

    name: str
    build: Callable[[dict[str, Parent]], PretrainTask | TokenizerFit | Labelling]
    parents: list[str] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    optim: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    initialise: bool = True


@dataclass
class Examples:
    """A labelled split: utterances and one label entry per utterance."""

    cuts: Any  # data.cuts.CutTable
    labels: dict[str, list]  # name -> one entry per utterance


class Metric(Protocol):
    """Accumulates results; `records` lets the runner bootstrap intervals and write predictions.

    `per_utterance = False` (a class attribute, True where it is missing) marks a metric whose records are no
    utterances, such as trials: each then names its own under "utterances", of which the first gives speaker and groups.
    """

    def update(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any], ids: list[str]) -> None: ...

    def compute(self) -> dict[str, float]: ...

    def records(self) -> list[dict[str, Any]]:
        """Return per utterance {"id", "reference", "hypothesis", "numerator", "denominator"}.

        The main metric of any subset is `100 * sum(numerator) / sum(denominator)`. A metric that is no such ratio
        also has `main(weights)`: the main metric (R,) where record number i counts weights[r, i] times.
        """


@dataclass(frozen=True)
class Remembered:
    """Stands for the corpus of a task that is built again for use: what the task took from the train split, no more.

    Attributes:
        name: of the corpus.
        facts: `BenchmarkTask.facts` of the task that was trained.
    """

    name: str
    facts: dict[str, Any]
    fold: str = ""

    def table(self, split: str) -> Any:
        raise UserError(f"this task was built again for use, without {split} of {self.name}; it has no utterances")


class BenchmarkTask:
    """What all tasks of the benchmark are asked; the two kinds of them, trained and layerwise, follow below.

    Constructors take the corpus first. Whatever they find out of its train split goes through `from_train`, so that the
    task can be built again, to predict, where there is no corpus any more.
    """

    name: str
    monitor: ClassVar[str]  # the main metric: reported on test and, but for a `selector`, what dev selects by
    mode: ClassVar[str]  # "max" or "min"
    splits: ClassVar[tuple[str, ...]] = ("train", "dev", "test")  # that it needs
    pooled: ClassVar[bool] = False  # no more than statistics over time of the features is needed
    pooling: str = "mean"  # which, where it is pooled: "mean", or "mean_std" for mean and standard deviation
    superb: ClassVar[dict[str, str]] = {}  # metrics (and their modes) that a suite of tasks is compared by
    folds: Sequence[str] = ("",)
    corpus: Any  # a speechssl.data.cuts.Corpus, or Remembered
    facts: dict[str, Any]  # what `from_train` returned, by name

    def from_train(self, name: str, find: Callable[[], Any]) -> Any:
        """Return a fact of the train split, such as its classes: plain values, found now or remembered.

        Args:
            name: of the fact.
            find: finds it in `self.corpus`.
        """
        self.facts = getattr(self, "facts", {})
        self.facts[name] = self.corpus.facts[name] if isinstance(self.corpus, Remembered) else find()
        return self.facts[name]

    def dataset(self, split: str) -> Examples:
        """Return "train", "dev" or "test" with labels; label indices come from the train split."""
        raise NotImplementedError(f"{type(self).__name__} has to implement dataset(split)")

    def check(self) -> None:
        """Raise UserError for labels that would only fail, or mislead, after long work. Reads no audio."""

    def chance(self) -> float | None:
        """Return the main metric on test of the best answer that does not listen, chosen on train.

        Of tasks of labels that is the same answer for every utterance. Called after selection, as it looks at test.
        """
        return None


class LayerwiseTask(BenchmarkTask):
    """A task that trains nothing: every hidden state is a system of its own, and dev chooses one of them."""

    splits = ("dev", "test")

    def measure(self, examples: Examples, states: Callable[[int], list[Tensor]], layers: Sequence[int]) -> list[Metric]:
        """Return one filled metric for each of the hidden states `layers`.

        Args:
            examples: a split.
            states: gives hidden state number l of all its utterances, each (T, D) float32 on the device to work on.
            layers: numbers of the hidden states to measure.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement measure(examples, states, layers)")

    def search(
        self, queries: Sequence[Tensor], documents: Sequence[Tensor], frame_seconds: float
    ) -> list[list[dict[str, Any]]]:
        """Return for every document what each query finds in it: "score", "start" and "end" in seconds.

        Args:
            queries, documents: (T, D) of one hidden state.
            frame_seconds: between two frames.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement search(queries, documents, frame_seconds)")


class DownstreamTask(BenchmarkTask):
    """A head trained on features. Layer mixing, freezing, caching and the loop belong to the core."""

    selector: ClassVar[tuple[str, str] | None] = None  # metric and mode that select on dev, where not the main metric
    refit: ClassVar[bool] = False  # given folds: once dev has selected, train anew on train and dev together
    finetunable: ClassVar[bool] = True  # the whole model can be trained on waveforms with this head and loss
    crop_seconds: float | None = None  # longest piece of an utterance in a train batch, at a place drawn for each batch
    chunk_seconds: float | None = None  # longer train utterances become several of at most this length
    test_selected: int = 0  # checkpoints whose best main metric on test is reported, marked, beside the honest one
    steps: int
    batch_size: int
    eval_every: int
    lrs: tuple[float, ...]
    clip_norm: float
    weight_decay: float = 0.0  # decoupled, of all weights

    def sample_weights(self, examples: Examples) -> list[float] | None:
        """Return per-utterance weights for drawing train batches with replacement, or None for plain shuffling.

        They may depend on the labels only: train and dev are joined for a refit.
        """
        return None

    def frame_targets(
        self, labels: dict[str, list], starts: Sequence[int], counts: Sequence[int], downsample_rate: int
    ) -> dict[str, list]:
        """Return the labels of a batch in which some have one entry per frame; as they are where none has.

        Args:
            labels: of the batch, as `dataset` gave them.
            starts, counts: (B,) frames: row b is a window of its utterance of `counts[b]` frames from `starts[b]` on.
            downsample_rate: samples per frame.
        """
        return labels

    def head(self, hidden_size: int, downsample_rate: int) -> nn.Module:
        """Return forward(features (B, T, D), lengths (B,)) -> (outputs, output lengths).

        A pooled head also takes the statistics themselves: (B, 1, D), or (B, 1, 2 D) with `pooling="mean_std"`. A head
        whose forward `torch.vmap` can map over stacked parameters (no recurrent layers, no random numbers, nothing
        written in place) says so with `stackable = True`: the heads of all learning rates are then computed as one.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement head(hidden_size, downsample_rate)")

    def loss(self, outputs: Tensor, lengths: Tensor, labels: dict[str, Any]) -> dict[str, Tensor]:
        """Return {"loss": scalar, ...}."""
        raise NotImplementedError(f"{type(self).__name__} has to implement loss(outputs, lengths, labels)")

    def metric(self, **choices: Any) -> Metric:
        """Return an empty metric; `choices` are those of `tune`."""
        raise NotImplementedError(f"{type(self).__name__} has to implement metric()")

    def tune(self, metric: Metric) -> dict[str, Any]:
        """Return what is decided after training, such as a threshold, from the filled dev metric of the chosen head."""
        return {}

    def predictions(
        self, outputs: Tensor, lengths: Tensor, frame_seconds: float, **choices: Any
    ) -> list[dict[str, Any]]:
        """Return what the head's outputs say of each utterance, as plain values for people and programs.

        Keys that mean the same in all tasks: "label", "score" (0 to 1) and "scores" {label: score}; "labels" (several);
        "text"; "segments", a list of {"label", "start", "end", "score"} in seconds; "embedding".

        Args:
            outputs: of B utterances, as `head` gives them in eval mode.
            lengths: (B,) valid outputs.
            frame_seconds: between two frames of the features that the head was given.
            choices: those of `tune`.
        """
        raise NotImplementedError(f"{type(self).__name__} has to implement predictions(outputs, lengths, ...)")
