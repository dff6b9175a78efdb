"""Trials of speaker verification: from the column `trials` of a manifest, or from lists in VoxCeleb's format."""

from collections.abc import Collection, Iterable, Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath

from speechssl.errors import UserError
from speechssl.metrics.trial_list import read_trials

SPEAKER, TRIALS = "speaker", "trials"

Trials = dict[str, list[tuple[str, int]]]  # first utterance: [(second utterance, 1 = same speaker), ...]


def column_trials(ids: Sequence[str], column: Iterable[list | None]) -> Trials:
    """Return the trials of a column with [other id, 1 or 0] pairs."""
    return {
        name: [(str(other), int(same)) for other, same in pairs]
        for name, pairs in zip(ids, column, strict=True)
        if pairs
    }


def listed_trials(path: str | Path, ids: Collection[str]) -> Trials:
    """Return the trials of a list, of utterances by id or by path.

    A path is that of the audio file, as in VoxCeleb's lists: `id10270/5r0dWxy17C8/00001.wav` is the utterance whose id
    is, or ends with, `id10270-5r0dWxy17C8-00001`.

    Raises:
        UserError: a list that cannot be read, or utterances that are not among the ids.
    """
    rows = read_trials(path)
    names = _resolved(list(dict.fromkeys(name for row in rows for name in row[:2])), ids, path)
    trials: Trials = {}
    for first, second, same in rows:
        trials.setdefault(names[first], []).append((names[second], same))
    return trials


def _resolved(names: Sequence[str], ids: Collection[str], path: str | Path) -> dict[str, str]:
    """Return the id of every name."""
    known = set(ids)
    found = {name: name if name in known else _flat(name) for name in names}
    if not known.issuperset(found.values()):
        endings = _endings(known)
        found = {name: short if short in known else endings.get(short) for name, short in found.items()}
    absent = [name for name in names if found[name] is None]
    if absent:
        raise UserError(
            f"{path} names {len(absent)} utterances that are not there, such as {absent[0]}; "
            "prepare the corpus they belong to, or take them out of the list"
        )
    return found


def _endings(ids: Iterable[str]) -> dict[str, str | None]:
    """Return the id that ends with `-` and each of these texts, None where several do."""
    found: dict[str, str | None] = {}
    for name in ids:
        parts = name.split("-")[:0:-1]  # from the last to the second
        for ending in accumulate(parts, lambda end, part: f"{part}-{end}"):
            found[ending] = None if ending in found else name
    return found


def _flat(name: str) -> str:
    path = PurePosixPath(name)
    return "-".join((path.parent / path.stem).parts)
