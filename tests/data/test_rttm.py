"""RTTM files: blanks or tabs, nine or ten fields, other types of lines."""

from pathlib import Path

import pytest

from speechssl.data.rttm import read_rttm
from speechssl.errors import UserError


def test_turns(tmp_path: Path) -> None:
    first, second = tmp_path / "first.rttm", tmp_path / "second.rttm"
    first.write_text(
        "SPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA>\n"
        "SPEAKER talk 1 0.35 1.50 <NA> <NA> anna <NA> <NA>\n"
        "SPEAKER talk 1   1.2  0.7 <NA> <NA> ben <NA> <NA>\n"
    )
    second.write_text("SPEAKER\tother\t1\t0.1\t0.2\t<NA>\t<NA>\tanna\t<NA>\n\n")
    assert read_rttm([first, second]) == {
        "talk": [("anna", 0.35, 1.85), ("ben", 1.2, 1.9)],
        "other": [("anna", 0.1, 0.3)],
    }


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.rttm"
    path.write_text("SPEAKER talk 1 0.35 1.50 <NA> <NA> anna <NA>\nSPEAKER talk 1 start 1.50 <NA> <NA> anna\n")
    with pytest.raises(UserError, match=r"bad.rttm, line 2: expected SPEAKER recording 1 start duration"):
        read_rttm([path])
    with pytest.raises(UserError, match=r"missing.rttm cannot be read"):
        read_rttm([tmp_path / "missing.rttm"])
