"""The two ways to use an upstream for a task: a head on its frozen features, or training all of it."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.finetune.checks import check_task
from speechssl.finetune.finetuner import Finetuner
from speechssl.finetune.settings import FinetuneSettings, read_settings
from speechssl.interfaces import BenchmarkTask, DownstreamTask, LayerwiseTask
from speechssl.probe.encoders import Encoder, EncodingSettings
from speechssl.probe.layerwise import Layerwise
from speechssl.probe.outcome import Outcome, Place
from speechssl.probe.train import HeadSettings, Probe

LOGGER = logging.getLogger(__name__)


class Trained(Protocol):
    """A task on one upstream and corpus."""

    task: BenchmarkTask

    def run(self, place: Place) -> Outcome: ...


def require_splits(corpus: Corpus, *splits: str) -> None:
    """Raise UserError for a corpus without one of the splits, naming views in it that have them."""
    missing = [split for split in splits if split not in corpus.splits]
    if missing:
        views = (
            sorted({path.parents[1] for path in corpus.path.glob("*/*/test*.jsonl.gz")}) if corpus.path.is_dir() else []
        )
        remedy = (
            f"; prepare it again, as corpus=lhotse or folder into another out=, with options.{missing[0]}_share=0.2"
        )
        hint = f"; try data={views[0]}" if views else remedy if missing[0] in ("dev", "test") else ""
        raise UserError(f"{corpus.path} has no split {missing[0]!r} (it has {', '.join(corpus.splits)}){hint}")


LOOKED_AT = 20  # utterances of a split whose audio is looked for before any work


def require_audio(corpus: Corpus, splits: Iterable[str]) -> None:
    """Raise UserError for a split none of whose audio files is where the manifest says, as after moving them."""
    for split in splits:
        table = corpus.table(split)
        places = [table.audio_of(row) for row in range(0, len(table), max(1, len(table) // LOOKED_AT))]
        paths = [place[0] for place in places if place is not None]
        if paths and not any(Path(path).is_file() for path in paths):
            raise UserError(
                f"the audio of {split} in {corpus.path} is not where its manifest says (for example {paths[0]}); "
                "move it back, or prepare the corpus again"
            )


def warn_of_shared_audio(corpus: Corpus) -> None:
    """Tell of recordings that are in train and in dev or test too: results on them are no results on new data."""
    if "train" not in corpus.splits:
        return
    train = set(_recordings(corpus, "train"))
    for split in ("dev", "test"):
        both = [name for name in _recordings(corpus, split) if name in train] if split in corpus.splits else []
        if both:
            LOGGER.warning("%d recordings of %s are in train and in %s as well", len(both), corpus.path, split)


def _recordings(corpus: Corpus, split: str) -> list[Any]:
    table = corpus.table(split)
    return [table.audio_of(row) or name for row, name in enumerate(table.ids)]


Prepared = tuple[Callable[[BenchmarkTask], Trained], str, dict[str, Any]]


class Mode(Protocol):
    """How upstreams are used in a benchmark."""

    encoding: EncodingSettings

    def check(self, task: BenchmarkTask, corpus: Corpus) -> None:
        """Raise UserError for settings that do not fit a task on a corpus."""

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        """Return what trains a task, the digest of the upstream's weights, and what a row says of both."""


def mode_of(
    encoding: dict[str, Any], probe: dict[str, Any], finetuning: dict[str, Any] | None, run_dir: Path
) -> "Mode":
    """Return how upstreams are used, from the keys of `speechssl benchmark`.

    Args:
        encoding: fields of `EncodingSettings`; "cache" None = `run_dir/cache`.
        probe: the group of that name.
        finetuning: fields of `speechssl.finetune.settings.FinetuneSettings`; None = upstreams are frozen.
        run_dir: of the benchmark.
    """
    cache = Path(encoding["cache"] or run_dir / "cache")
    online = {"online": probe.get("online", False), "frame_dtype": probe["frame_dtype"]}
    settings = EncodingSettings(**encoding | online | {"cache": cache})
    if finetuning is not None:
        return Finetuned(settings, read_settings(finetuning))
    own = {name: probe[name] for name in ("standardize", "fixed_batch", "halving") if name in probe}
    return Frozen(settings, HeadSettings(device=settings.device, **own))


class Frozen:
    """Heads on the hidden states.

    Args:
        encoding: of features.
        heads: how they are trained.
    """

    def __init__(self, encoding: EncodingSettings, heads: HeadSettings):
        self.encoding, self.heads = encoding, heads

    def check(self, task: BenchmarkTask, corpus: Corpus) -> None:
        require_splits(corpus, *task.splits)
        require_audio(corpus, task.splits)
        if not self.encoding.online:
            return
        if not isinstance(task, DownstreamTask):
            raise UserError(f"probe.online=true is for heads that are trained, which task {task.name} has none of")
        if task.pooled and (self.heads.standardize or task.pooling != "mean"):
            raise UserError(
                f"probe.online=true has no statistics of whole utterances, which task {task.name} needs for "
                "probe.standardize and pooling=mean_std; leave out one or the other"
            )

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        cache, sha256 = encoder.on(corpus)

        def make(task: BenchmarkTask) -> Trained:
            if isinstance(task, LayerwiseTask):
                return Layerwise(task, corpus, cache, self.heads.device)
            return Probe(task, corpus, cache, self.heads)

        kept = {name: getattr(self.encoding, name) for name in ("frame_dtype", "online", "max_seconds")}
        about = asdict(self.heads) | kept
        return make, sha256, about


class Finetuned:
    """Whole models on waveforms.

    Args:
        encoding: "device" and "max_seconds" count.
        settings: of fine-tuning.
    """

    def __init__(self, encoding: EncodingSettings, settings: FinetuneSettings):
        self.encoding, self.settings = encoding, settings

    def check(self, task: BenchmarkTask, corpus: Corpus) -> None:
        if not isinstance(task, DownstreamTask):
            raise UserError(f"finetune=true is not for task {task.name}, which trains nothing; leave it out")
        if not task.finetunable:
            raise UserError(
                f"finetune=true is not for task {task.name}, which learns from labels of frames; leave it out"
            )
        require_splits(corpus, "train", "test")
        require_audio(corpus, ("train", "test"))
        check_task(task, corpus, self.settings)

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        upstream, sha256 = encoder.model(corpus)
        device, longest = self.encoding.device, self.encoding.max_seconds
        own = {"settings": self.settings, "device": device, "max_seconds": longest}
        make = partial(Finetuner, corpus=corpus, upstream=upstream, **own)
        about = {"finetuning": asdict(self.settings), "device": device, "max_seconds": longest}
        return make, sha256, about
