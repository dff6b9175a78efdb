"""Any lhotse cut manifest, or a folder of {train,dev,test}.jsonl.gz, packed anew.

Audio of several channels becomes their mean. A single manifest is divided into train and a small dev by hash
of the cut id, unless `split` names the one it is.
"""

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from speechssl.data.cuts import CutTable, open_corpus
from speechssl.data.items import SPLITS, Item, Preparation
from speechssl.data.manifest import RMS, SUPERVISION_COLUMNS
from speechssl.data.scan import scan
from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import UserError


def plan(
    source: str | Path,
    *,
    split: str | None = None,
    dev_share: float = 0.05,
    name: str | None = None,
    licence: str = "unknown",
) -> Preparation:
    """Any lhotse cut manifest, or a folder of train, dev and test manifests.

    Args:
        source: a cut manifest, or a folder of them.
        split: which split a single manifest is; None divides it into train and dev by hash of the cut ids.
        dev_share: share of cuts that then goes to dev.
        name: identity of the corpus; None = the manifest's name.
        licence: of the audio, to be remembered in corpus.json.
    """
    if source is None:
        raise UserError("corpus=lhotse needs source=, a cut manifest or a folder of {train,dev,test}.jsonl.gz")
    if split not in (None, *SPLITS):
        raise UserError(f"split={split} is unknown; expected one of {', '.join(SPLITS)}, or nothing")
    corpus = open_corpus(source)
    items = []
    for which in corpus.splits:
        chosen = which if Path(source).is_dir() else split
        items += _items(corpus.table(which), str(corpus.manifests[which].resolve()), chosen)
    return Preparation(name or corpus.name, items, licence, shares={"dev": dev_share})


def _items(table: CutTable, manifest: str, split: str | None) -> Iterator[Item]:
    for row, (identifier, _, labels) in enumerate(table.rows()):
        known = {name: labels.pop(name, None) for name in SUPERVISION_COLUMNS}
        labels.pop(RMS, None)  # of the audio before it is stored anew
        custom = {name: value for name, value in labels.items() if value is not None}
        place = table.audio_of(row)
        if place is None:
            yield Item(identifier, partial(read_row, manifest, row), split, custom=custom, **known)
        else:
            path, start, duration = place
            yield Item(identifier, path, split, start, duration, custom=custom, **known)


@lru_cache(maxsize=4)
def _table(manifest: str) -> CutTable:
    """Return a manifest's utterances; every process reads each manifest once."""
    return CutTable(scan(Path(manifest)))


def read_row(manifest: str, row: int) -> tuple[np.ndarray, int]:
    """Return samples (S,) and rate of one utterance of a manifest."""
    return _table(manifest).read(row), SAMPLE_RATE
