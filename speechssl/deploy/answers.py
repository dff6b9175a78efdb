"""Where answers go: stdout, or a file that is whole when it is there and goes on where a killed run was.

While a file is being made it is `OUT.part`; `OUT.part.json` says how far it is, and from which settings. The same
command cuts the part back to what was noted and goes on. The last step is a rename.
"""

import csv
import hashlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from speechssl.errors import UserError, nearest
from speechssl.files import digest, make_folder, read_json, unwritable, write_json

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two commands apart
    fcntl = None

FORMATS = ("jsonl", "csv")


class Lines:
    """Rows as text.

    Args:
        format: "jsonl": an object per line; "csv": a header, then cells, lists and objects in them as JSON.
        columns: of the CSV.
    """

    def __init__(self, format: str, columns: Sequence[str]):
        if format not in FORMATS:
            raise UserError(f"format={format!r} is not known; known: {', '.join(FORMATS)}{nearest(format, FORMATS)}")
        self.format, self.columns = format, list(columns)

    def header(self) -> str:
        return _csv_line(self.columns) if self.format == "csv" else ""

    def line(self, row: dict[str, Any]) -> str:
        if self.format == "jsonl":
            return _json(row) + "\n"
        return _csv_line([_cell(row.get(name)) for name in self.columns])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | bool) else value


def _csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)  # both are quoted where they are part of a cell
    return text.getvalue().removesuffix("\r\n") + "\n"


class Standard:
    """Rows to stdout, each as soon as it is known."""

    done = (0, 0)

    def __init__(self, lines: Lines, stream: IO[str] | None = None):
        self.lines, self.stream = lines, sys.stdout if stream is None else stream
        if stream is None and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # as JSON is, whatever the terminal says
        self.stream.write(lines.header())

    def passed(self, name: str) -> None:
        """Nothing is kept of what was answered."""

    def write(self, rows: Sequence[dict[str, Any]], inputs: int, pieces: int, partly: str = "") -> None:
        self.stream.write("".join(self.lines.line(row) for row in rows))
        self.stream.flush()

    def finish(self) -> None:
        self.stream.flush()

    def close(self) -> None:
        """The stream is not ours."""


class AnswerFile:
    """Rows to a file.

    Args:
        out: the file; must not exist.
        lines: how rows are written.
        settings: plain values that the answers depend on; a part begun with others is refused.
        overwrite: begin anew, and at the end replace a file that is there.
    """

    def __init__(self, out: Path, lines: Lines, settings: dict[str, Any], *, overwrite: bool = False):
        self.out, self.lines = out, lines
        self.part, self.notes = out.with_name(out.name + ".part"), out.with_name(out.name + ".part.json")
        self.settings = digest(settings | {"format": lines.format, "columns": lines.columns})
        self._names = hashlib.sha256()
        make_folder(out.parent)
        if out.is_dir():
            raise UserError(f"out={out} is a folder; give the file to write, such as {out / 'answers'}.{lines.format}")
        if out.exists() and not overwrite:
            raise UserError(f"out={out} exists; give another place, or overwrite=true to make it anew")
        self._file = self._opened()
        if overwrite:
            self.notes.unlink(missing_ok=True)
        before = self._before()
        self.done: tuple[int, int] = (before["inputs"], before["pieces"])  # whole inputs, and pieces of the next one
        self._expected = before["names"]
        self._file.truncate(before["bytes"])
        self._file.seek(before["bytes"])
        if not before["bytes"]:
            self._file.write(lines.header().encode())

    def _opened(self) -> IO[bytes]:
        """Return the part, open to be written by this process alone."""
        try:
            file = open(self.part, "r+b" if self.part.exists() else "w+b")  # noqa: SIM115 (closed by `finish`)
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{self.part} is being written by another process; wait for it") from error
        except OSError as error:
            raise UserError(unwritable(self.part, error)) from error
        return file

    def _before(self) -> dict[str, Any]:
        """Return what the notes of an earlier run say, or those of none."""
        notes = read_json(self.notes) if self.notes.is_file() else {"bytes": 0}
        if not 0 < notes["bytes"] <= self.part.stat().st_size:
            return {"inputs": 0, "pieces": 0, "bytes": 0, "names": ""}
        if notes["settings"] != self.settings:
            raise UserError(
                f"{self.part} was begun with another run or other settings; go on with those, or overwrite=true"
            )
        return notes

    def passed(self, name: str) -> None:
        """Be told of every input that has been answered, in this run or before, to see that they are the same."""
        self._names.update(os.fsencode(name) + b"\0")

    def check(self, partly: str = "") -> None:
        """Raise UserError where the inputs told as answered are not those of the run before.

        Args:
            partly: name of the one that was answered in part; "" where there is none.
        """
        if self._expected and self._digest(partly) != self._expected:
            raise UserError(f"{self.part} was begun with other inputs; go on with those, or overwrite=true")

    def _digest(self, partly: str) -> str:
        names = self._names.copy()
        names.update(os.fsencode(partly))
        return names.hexdigest()

    def write(self, rows: Sequence[dict[str, Any]], inputs: int, pieces: int, partly: str = "") -> None:
        """Add rows, and note how far they reach.

        Args:
            rows: further answers.
            inputs: that are answered whole now.
            pieces: of the next input that are answered.
            partly: name of that input, where there are such pieces.
        """
        self._file.write("".join(self.lines.line(row) for row in rows).encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        notes = {"settings": self.settings, "inputs": inputs, "pieces": pieces, "bytes": self._file.tell()}
        write_json(self.notes, notes | {"names": self._digest(partly)})

    def finish(self) -> None:
        """Put the file in its place."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self.part, self.out)
        self.notes.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the part as it is, for a later run."""
        self._file.close()


def finite(row: dict[str, Any]) -> bool:
    """Tell whether all numbers of a row are finite."""
    return all(value == value and abs(value) != float("inf") for value in _numbers(row))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, float):
        yield value
