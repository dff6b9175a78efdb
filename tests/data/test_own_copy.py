"""Copies that only the user has: where they are looked for, and the line that says what is missing."""

from pathlib import Path

import pytest

from speechssl.data.csv_rows import csv_rows
from speechssl.data.own_copy import own_copy
from speechssl.errors import UserError


def test_the_source_or_a_folder_in_it(tmp_path: Path) -> None:
    inner = tmp_path / "archive"
    (inner / "data").mkdir(parents=True)
    (inner / "data" / "list.csv").touch()
    for source in (inner, tmp_path, str(tmp_path)):
        assert own_copy("some", source, ["data/*.csv"], ["archive"], "ask") == inner
    (tmp_path / "worse").mkdir()
    assert own_copy("some", tmp_path, ["data/*.csv", "worse"], ["archive"], "ask") == inner
    assert own_copy("some", tmp_path, ["worse"], ["archive"], "ask") == tmp_path


def test_without_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHSSL_DATA", str(tmp_path))
    with pytest.raises(UserError, match="some cannot be downloaded here; give source= a copy of it: ask the owner"):
        own_copy("some", None, ["list.csv"], [], "ask the owner")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "list.csv").touch()
    assert own_copy("some", None, ["list.csv"], [], "ask") == tmp_path / "some"


def test_a_wrong_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"source=.*nowhere is no folder; expected a copy of some: ask"):
        own_copy("some", tmp_path / "nowhere", ["list.csv"], [], "ask")
    with pytest.raises(UserError, match=r"has no list\.csv and no other; expected a copy of some: ask") as caught:
        own_copy("some", tmp_path, ["list.csv", "other"], ["archive"], "ask")
    assert "\n" not in str(caught.value)


def test_tables_separated_by_tabs(tmp_path: Path) -> None:
    table = tmp_path / "table.tsv"
    table.write_text('id\ttext\n1\t"Oh", he said\n2\t"unbalanced\n3\tlast\n')
    rows = [row["text"] for row in csv_rows(table, ["id", "text"], delimiter="\t", quotes=False)]
    assert rows == ['"Oh", he said', '"unbalanced', "last"]
    table.write_text('id\ttext\n1\t"say ""a\tb"""\n')
    assert [row["text"] for row in csv_rows(table, ["id"], delimiter="\t")] == ['say "a\tb"']
    with pytest.raises(UserError, match=r"table\.tsv has no column 'label'"):
        next(csv_rows(table, ["label"], delimiter="\t"))
