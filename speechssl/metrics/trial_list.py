"""Lists of verification trials as VoxCeleb publishes them: two utterances a line, and whether one speaker said both."""

from pathlib import Path
from typing import NamedTuple

from speechssl.errors import UserError

LINE = "1 FIRST SECOND, or 0 FIRST SECOND where the speakers differ"


class Trial(NamedTuple):
    """Two utterances, and 1 where the speaker is the same, else 0."""

    first: str
    second: str
    same: int


def read_trials(path: str | Path) -> list[Trial]:
    """Return the trials of a list, in its order; empty lines are passed over.

    Raises:
        UserError: no such file, another format, or no trial.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the trial list {path} cannot be read ({error}); expected lines: {LINE}") from error
    trials = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 3 or fields[0] not in ("0", "1"):
            raise UserError(f"{path}, line {number}: expected {LINE}; found {line.strip()!r}")
        trials.append(Trial(fields[1], fields[2], int(fields[0])))
    if not trials:
        raise UserError(f"the trial list {path} is empty; expected lines: {LINE}")
    return trials
