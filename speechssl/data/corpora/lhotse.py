"""Any lhotse cut manifest, or a folder of {train,dev,test}.jsonl.gz, packed anew.

Audio of several channels becomes their mean. A single manifest is divided by hash of the cut id (or of a column, such
as the speaker) into train and a small dev, with `test_share` also a test split, unless `split` names the one it is.
Splits that a folder lacks are taken from its train split on request.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from speechssl.data.cuts import Corpus, CutTable, open_corpus
from speechssl.data.items import SPLITS, Item, Preparation
from speechssl.data.manifest import RMS, SUPERVISION_COLUMNS
from speechssl.data.scan import scan
from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import UserError


def plan(
    source: str | Path,
    *,
    split: str | None = None,
    dev_share: float | None = None,
    test_share: float = 0.0,
    group_by: str | None = None,
    name: str | None = None,
    licence: str = "unknown",
) -> Preparation:
    """Any lhotse cut manifest, or a folder of train, dev and test manifests.

    Args:
        source: a cut manifest, or a folder of them.
        split: which split a single manifest is; None divides it.
        dev_share: share of the cuts of a single manifest, or of a folder's train split, that goes to dev; None = 0.05
            of a single manifest, and nothing of a folder.
        test_share: the same for test; a benchmark needs one.
        group_by: column whose values stay together in a split, such as speaker; None = every cut by itself.
        name: identity of the corpus; None = the manifest's name.
        licence: of the audio, to be remembered in corpus.json.
    """
    if source is None:
        raise UserError("corpus=lhotse needs source=, a cut manifest or a folder of {train,dev,test}.jsonl.gz")
    if split not in (None, *SPLITS):
        raise UserError(f"split={split} is unknown; expected one of {', '.join(SPLITS)}, or nothing")
    if split is not None and (dev_share or test_share):
        raise UserError(f"split={split} says what the whole manifest is; leave out dev_share and test_share")
    corpus, folder = open_corpus(source), Path(source).is_dir()
    shares = _shares(corpus, folder or split is not None, dev_share, test_share)
    items = []
    for which in corpus.splits:
        divided = which == "train" if any(shares.values()) else not folder
        chosen = split or (None if divided else which)
        groups = _groups(corpus.table(which), group_by) if chosen is None else None
        items += _items(corpus.table(which), str(corpus.manifests[which].resolve()), chosen, groups)
    return Preparation(name or corpus.name, items, licence, shares=shares)


def _shares(corpus: Corpus, named: bool, dev_share: float | None, test_share: float) -> dict[str, float]:
    """Return what is taken from train; `named` = the splits have names already, and nothing is but on request."""
    shares = {"dev": (0.0 if named else 0.05) if dev_share is None else dev_share, "test": test_share}
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        raise UserError(f"dev_share and test_share must be 0 or more and leave something to train, found {shares}")
    there = [name for name, share in shares.items() if share and named and name in corpus.splits]
    if there:
        raise UserError(f"{corpus.path} has a split {there[0]!r} of its own; leave out options.{there[0]}_share")
    return shares


def _groups(table: CutTable, column: str | None) -> Sequence[str | None]:
    """Return what must stay together, for every utterance; None = the utterance by itself."""
    values = [None] * len(table) if column is None else table.column(column)
    if column is not None and all(value is None for value in values):
        raise UserError(
            f"group_by={column} names a column that no cut has a value in; columns: {', '.join(table.columns)}"
        )
    return [None if value is None else f"{column}={value}" for value in values]


def _items(table: CutTable, manifest: str, split: str | None, groups: Sequence[str | None] | None) -> Iterator[Item]:
    for row, (identifier, _, labels) in enumerate(table.rows()):
        known = {name: labels.pop(name, None) for name in SUPERVISION_COLUMNS}
        labels.pop(RMS, None)  # of the audio before it is stored anew
        custom = {name: value for name, value in labels.items() if value is not None}
        group = None if groups is None else groups[row]
        place = table.audio_of(row)
        if place is None:
            yield Item(identifier, partial(read_row, manifest, row), split, custom=custom, group=group, **known)
        else:
            path, start, duration = place
            yield Item(identifier, path, split, start, duration, custom=custom, group=group, **known)


@lru_cache(maxsize=4)
def _table(manifest: str) -> CutTable:
    """Return a manifest's utterances; every process reads each manifest once."""
    return CutTable(scan(Path(manifest)))


def read_row(manifest: str, row: int) -> tuple[np.ndarray, int]:
    """Return samples (S,) and rate of one utterance of a manifest."""
    return _table(manifest).read(row), SAMPLE_RATE
