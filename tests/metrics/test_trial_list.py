"""Lists of trials: their format, and errors that name file and line."""

from pathlib import Path

import pytest

from speechssl.errors import UserError
from speechssl.metrics.trial_list import Trial, read_trials


def test_trials_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a/x/1.wav a/y/1.wav\n0 a/x/1.wav b/x/1.wav\n\n0 b/x/1.wav a/y/1.wav\n")
    assert read_trials(path) == [
        Trial("a/x/1.wav", "a/y/1.wav", 1),
        Trial("a/x/1.wav", "b/x/1.wav", 0),
        Trial("b/x/1.wav", "a/y/1.wav", 0),
    ]


@pytest.mark.parametrize("line", ["a/x/1.wav b/x/1.wav", "2 a b", "1 a b c"])
def test_errors_name_the_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(f"1 a b\n\n{line}\n")
    with pytest.raises(UserError, match=r"trials\.txt, line 3: expected 1 FIRST SECOND"):
        read_trials(path)


def test_missing_and_empty_lists(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.txt cannot be read"):
        read_trials(tmp_path / "missing.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="is empty; expected lines: 1 FIRST SECOND"):
        read_trials(tmp_path / "empty.txt")
