"""What a corpus plan hands to `prepare`: utterances, further manifests over them, and where they come from.

A plan reads file names and label files only. Reading, checking, resampling and packing the audio is the same
work for every corpus and lives in `speechssl.data.parts`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SPLITS = ("train", "dev", "test")

Samples = Callable[[], tuple[np.ndarray, int]]  # gives mono float32 samples (S,) in [-1, 1] and their rate in Hz


@dataclass
class Item:
    """One utterance of a corpus.

    Attributes:
        id: unique in the corpus, the cut id of the manifest.
        audio: a file, files that are joined end to end, or a function giving samples and rate. A function
            that can be pickled (`functools.partial` of a module's function) runs in the worker processes, any
            other in the main one.
        split: "train", "dev" or "test"; None = by hash of `group` with the shares of the `Preparation`;
            "" = in no manifest but those of views that name the item.
        start: seconds to skip at the beginning of `audio`.
        duration: seconds to take; None = all that follows.
        custom: further columns, for example `keyword`, `label`, `source_id`, `fold`.
        group: items of one group go to the same split where `split` is None; None = every item by itself.
        may_be_silent: keep the item if every sample is zero, which otherwise counts as damage. For published test
            sets, whose results are over all of their clips.
    """

    id: str
    audio: str | list[str] | Samples
    split: str | None = None
    start: float = 0.0
    duration: float | None = None
    speaker: str | None = None
    gender: str | None = None
    text: str | None = None
    language: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    may_be_silent: bool = False


@dataclass
class View:
    """A further set of manifests over the same audio, for example one fold or a small draw of labels.

    Attributes:
        folder: where its manifests go, below the corpus folder ("ks60/draw0").
        name: what the view is, the same for all its folds or draws ("ks60").
        fold: which of them this is ("draw0").
        splits: item ids per split; ids of items that turned out unreadable are left out and counted.
        columns: custom columns that differ in this view, as {column: {item id: value}}.
    """

    folder: str
    name: str
    fold: str
    splits: dict[str, list[str]]
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Preparation:
    """A corpus as its plan describes it.

    Attributes:
        name: identity of the corpus; part of its fingerprint.
        items: all utterances, in a reproducible order.
        licence: of the audio, with the attribution it asks for.
        views: further manifests over the same audio.
        shares: share of the items without a split that goes to "dev" and "test"; the rest is "train".
        coverage: how much of the published corpus was found, as `speechssl.data.coverage` has it; goes to
            `corpus.json`.
        task_size: of the tasks that `benchmark tasks=all` should run on it, where those of the published recipes would
            be too large; goes to `corpus.json`.
    """

    name: str
    items: list[Item]
    licence: str
    views: list[View] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=lambda: {"dev": 0.05})
    coverage: dict[str, Any] = field(default_factory=dict)
    task_size: str = ""
