"""Trials of speaker verification: from the column `trials` of a manifest, or from lists in VoxCeleb's format."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from speechssl.errors import UserError

SPEAKER, TRIALS = "speaker", "trials"
LINE = "1 FIRST SECOND, or 0 FIRST SECOND where the speakers differ"

Trials = dict[str, list[tuple[str, int]]]  # first utterance: [(second utterance, 1 = same speaker), ...]


def column_trials(ids: Sequence[str], column: Iterable[list | None]) -> Trials:
    """Return the trials of a column with [other id, 1 or 0] pairs."""
    return {
        name: [(str(other), int(same)) for other, same in pairs]
        for name, pairs in zip(ids, column, strict=True)
        if pairs
    }


def read_trials(path: str | Path, ids: Iterable[str]) -> Trials:
    """Return the trials of a list, a line each, of utterances by id or by path.

    A path is that of the audio file, as in VoxCeleb's lists: `id10270/5r0dWxy17C8/00001.wav` is the utterance whose id
    is, or ends with, `id10270-5r0dWxy17C8-00001`.

    Raises:
        UserError: no such file, another format, or utterances that are not in the split.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the trial list {path} cannot be read ({error}); expected lines: {LINE}") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    for number, row in rows:
        if len(row) != 3 or row[0] not in ("0", "1"):
            raise UserError(f"{path}, line {number}: expected {LINE}; found {' '.join(row)!r}")
    if not rows:
        raise UserError(f"the trial list {path} is empty; expected lines: {LINE}")
    names = _resolved(list(dict.fromkeys(chain.from_iterable(row[1:] for _, row in rows))), ids, path)
    trials: Trials = {}
    for _, (same, first, second) in rows:
        trials.setdefault(names[first], []).append((names[second], int(same)))
    return trials


def _resolved(names: Sequence[str], ids: Iterable[str], path: str | Path) -> dict[str, str]:
    """Return the id of every name."""
    known = set(ids)
    found = {name: name if name in known else _flat(name) for name in names}
    for name in [name for name in names if found[name] not in known]:
        longer = [other for other in known if other.endswith("-" + found[name])]
        if len(longer) == 1:
            found[name] = longer[0]
    absent = [name for name in names if found[name] not in known]
    if absent:
        raise UserError(
            f"{path} names {len(absent)} utterances that are not there, such as {absent[0]}; "
            "prepare the corpus they belong to, or take them out of the list"
        )
    return found


def _flat(name: str) -> str:
    path = PurePosixPath(name)
    return "-".join((path.parent / path.stem).parts)
