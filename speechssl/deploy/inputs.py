"""What `predict` is given to listen to: files, folders, patterns, lists from a pipe, prepared corpora.

Inputs are named first and opened one after the other, so a million of them cost no more than their names, and those
of a pipe nothing at all. Nothing is patched up: what cannot be read is an AudioError of that one input.
"""

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from speechssl.data.corpora.folder import SUFFIXES, find_audio
from speechssl.data.cuts import open_corpus
from speechssl.data.items import SPLITS
from speechssl.data.manifest import CORPUS_FILE, SUFFIX
from speechssl.deploy.pipe import lines_of
from speechssl.deploy.recordings import AudioFile, Recording, Utterance
from speechssl.errors import UserError

MANIFESTS = (".jsonl", ".jsonl.gz")
PIPE = "-"
PAUSE_SECONDS = 0.2  # without a further line: what has been read is answered
MARGIN_SECONDS = (
    0.05  # read on both sides of an excerpt that is resampled, so that it equals the same part of the whole
)


@dataclass(frozen=True)
class Inputs:
    """Recordings in their order.

    Attributes:
        key: "path" of files, "id" of utterances of a manifest.
        total: how many there are; None = not known before the end.
        recordings: read once; None among them says that the next one may take long to come.
    """

    key: str
    total: int | None
    recordings: Iterable[Recording | None]


def open_inputs(what: str | Sequence[str], split: str | None = None, pipe: IO[str] | None = None) -> Inputs:
    """Return what a name stands for.

    Args:
        what: an audio file, a list of files, a folder with audio anywhere below it, a pattern (`rec/*.wav`,
            `rec/**/*.flac`), "-" (a path in every line of stdin), a prepared folder or a lhotse cut manifest.
        split: of a prepared folder; None = all.
        pipe: to read instead of stdin.

    Raises:
        UserError: nothing there.
    """
    if not isinstance(what, str):
        names = [str(name) for name in what] if isinstance(what, Sequence) else []
        if not names:
            raise UserError(
                f"inputs={what} names nothing; expected audio files, a folder, a pattern or - (paths from stdin)"
            )
        return _files(names)
    if what == PIPE:
        return Inputs("path", None, lines_of(sys.stdin if pipe is None else pipe))
    path = Path(what)
    if _is_corpus(path):
        return _utterances(path, split)
    if split is not None:
        raise UserError(f"split={split} is for prepared folders; inputs={what} is none")
    if path.is_dir():
        names = [str(path / found) for found in find_audio(path)]
        if not names:
            raise UserError(f"no audio ({' '.join(s[1:] for s in SUFFIXES)}) below inputs={what}")
        return _files(names)
    if path.exists() or not glob.has_magic(what):
        return _files([what])  # one that is missing is told as such
    found = sorted(name for name in glob.iglob(what, recursive=True) if os.path.isfile(name))
    if not found:
        raise UserError(f"inputs={what} matches no file")
    return _files(found)


def _files(names: list[str]) -> Inputs:
    return Inputs("path", len(names), map(AudioFile, names))


def _is_corpus(path: Path) -> bool:
    if path.is_file():
        return path.name.endswith(MANIFESTS)
    return any((path / name).is_file() for name in (CORPUS_FILE, *(split + SUFFIX for split in SPLITS)))


def _utterances(path: Path, split: str | None) -> Inputs:
    corpus = open_corpus(path)
    tables = [corpus.table(name) for name in (corpus.splits if split is None else [split])]
    rows = (Utterance(table, row) for table in tables for row in range(len(table)))
    return Inputs("id", sum(map(len, tables)), rows)
