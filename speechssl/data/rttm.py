"""Who speaks when, from RTTM files: NIST's format of one line per stretch of speech."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from speechssl.errors import UserError

Turn = tuple[str, float, float]  # speaker, start and end in seconds


def read_rttm(paths: Iterable[Path]) -> dict[str, list[Turn]]:
    """Return the turns of every recording, in the order of the files; lines of other types than SPEAKER are skipped."""
    turns: dict[str, list[Turn]] = defaultdict(list)
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"RTTM file {path} cannot be read ({error})") from error
        for number, line in enumerate(lines, 1):
            fields = line.split()
            if fields and fields[0] == "SPEAKER":
                turns[fields[1]].append(_turn(fields, f"{path}, line {number}"))
    return dict(turns)


def _turn(fields: list[str], where: str) -> Turn:
    try:
        start, duration, speaker = float(fields[3]), float(fields[4]), fields[7]
    except (IndexError, ValueError) as error:
        raise UserError(
            f"{where}: expected SPEAKER recording 1 start duration <NA> <NA> speaker, found {' '.join(fields)!r}"
        ) from error
    return speaker, round(start, 4), round(start + duration, 4)
