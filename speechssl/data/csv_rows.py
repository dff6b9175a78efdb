"""Rows of the tables that come with corpora (CSV, or separated by tabs), with errors that name file and line."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from speechssl.errors import UserError


def csv_rows(path: Path, columns: Sequence[str], delimiter: str = ",", quotes: bool = True) -> Iterator[dict[str, str]]:
    """Yield the rows of a table with a header line as {column: text}.

    Args:
        path: the file.
        columns: that there must be; others are yielded as well.
        delimiter: between columns.
        quotes: whether quotation marks enclose text; False where they are text themselves.

    Raises:
        UserError: no such file, not text, or a header or row without one of the `columns`.
    """
    quoting = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter, quoting=quoting)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path} has no column {missing[0]!r}; expected the published file with {columns}")
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise UserError(f"{path}, line {reader.line_num}: expected the columns {columns}, found {row}")
                yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as CSV ({error}); use the published file") from error
