"""The two ways to use an upstream for a task: a head on its frozen features, or training all of it."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.finetune.checks import check_task
from speechssl.finetune.finetuner import Finetuner
from speechssl.finetune.settings import FinetuneSettings
from speechssl.interfaces import DownstreamTask
from speechssl.probe.encoders import Encoder, EncodingSettings
from speechssl.probe.outcome import Outcome, Place
from speechssl.probe.train import Probe


class Trained(Protocol):
    """A task on one upstream and corpus."""

    task: DownstreamTask

    def run(self, place: Place) -> Outcome: ...


def require_splits(corpus: Corpus, *splits: str) -> None:
    """Raise UserError for a corpus without one of the splits, naming views in it that have them."""
    missing = [split for split in splits if split not in corpus.splits]
    if missing:
        views = (
            sorted({path.parents[1] for path in corpus.path.glob("*/*/test*.jsonl.gz")}) if corpus.path.is_dir() else []
        )
        hint = f"; try data={views[0]}" if views else ""
        raise UserError(f"{corpus.path} has no split {missing[0]!r} (it has {', '.join(corpus.splits)}){hint}")


Prepared = tuple[Callable[[DownstreamTask], Trained], str, dict[str, Any]]


class Mode(Protocol):
    """How upstreams are used in a benchmark."""

    def check(self, task: DownstreamTask, corpus: Corpus) -> None:
        """Raise UserError for settings that do not fit a task on a corpus."""

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        """Return what trains a task, the digest of the upstream's weights, and what a row says of both."""


class Frozen:
    """Heads on cached features.

    Args:
        encoding: of features.
        standardize: see `speechssl.probe.heads.Standardize`.
    """

    def __init__(self, encoding: EncodingSettings, standardize: bool):
        self.encoding, self.standardize = encoding, standardize

    def check(self, task: DownstreamTask, corpus: Corpus) -> None:
        require_splits(corpus, "train", "dev", "test")

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        cache, sha256 = encoder.on(corpus)
        own = {"standardize": self.standardize, "device": self.encoding.device}
        make = partial(Probe, corpus=corpus, cache=cache, **own)
        return make, sha256, own | {"frame_dtype": self.encoding.frame_dtype}


class Finetuned:
    """Whole models on waveforms.

    Args:
        encoding: "device" and "max_seconds" count.
        settings: of fine-tuning.
    """

    def __init__(self, encoding: EncodingSettings, settings: FinetuneSettings):
        self.encoding, self.settings = encoding, settings

    def check(self, task: DownstreamTask, corpus: Corpus) -> None:
        require_splits(corpus, "train", "test")
        check_task(task, corpus, self.settings)

    def on(self, encoder: Encoder, corpus: Corpus) -> Prepared:
        upstream, sha256 = encoder.model(corpus)
        device, longest = self.encoding.device, self.encoding.max_seconds
        own = {"settings": self.settings, "device": device, "max_seconds": longest}
        make = partial(Finetuner, corpus=corpus, upstream=upstream, **own)
        return make, sha256, {"finetuning": asdict(self.settings), "device": device}
