"""Lexicons: syntax of CMUdict and LibriSpeech, which pronunciation counts, words that are in none."""

from pathlib import Path

import pytest

from speechssl.errors import UserError
from speechssl.nn.lexicon import pronounce, read_lexicon


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(";;; a comment\nREAD  R EH1 D\nREAD(2)  R IY1 D\na\tAH0\nA(2) EY1\n\n")
    second.write_text("READ\tR IY1 D\nBOOK B UH1 K\nBOOK B UW1 K\n")
    return [first, second]


def test_the_first_pronunciation_counts(files: list[Path]) -> None:
    assert read_lexicon(files) == {"READ": ("R", "EH1", "D"), "A": ("AH0",), "BOOK": ("B", "UH1", "K")}
    assert read_lexicon(files[::-1])["READ"] == ("R", "IY1", "D")


def test_phones_of_a_text(files: list[Path]) -> None:
    lexicon = read_lexicon(files)
    assert pronounce("Read a BOOK", lexicon) == ["R", "EH1", "D", "AH0", "B", "UH1", "K"]
    assert pronounce("READ A LETTER", lexicon) == ["R", "EH1", "D", "AH0", "<unk>"]
    assert pronounce("", lexicon) == []
    lexicon["IT'S"] = ("IH1", "T", "S")
    assert pronounce("'A' book; it\u2019s 'b'", lexicon) == ["AH0", "B", "UH1", "K", "IH1", "T", "S", "<unk>"]


def test_comments(tmp_path: Path) -> None:
    (tmp_path / "cmu.txt").write_text(";;; # words\nCAT  K AE1 T # an animal\ncat  K AE0 T\n#HASH  HH AE1 SH\n")
    assert read_lexicon([tmp_path / "cmu.txt"]) == {"CAT": ("K", "AE1", "T")}


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing.txt cannot be read"):
        read_lexicon([tmp_path / "missing.txt"])
    path = tmp_path / "words.txt"
    path.write_text("CAT K AE1 T\nDOG\n")
    with pytest.raises(UserError, match=r"line 2 of the lexicon .*words\.txt is 'DOG'; expected a word and its"):
        read_lexicon([path])
    path.write_text("CAT k a t\n")
    assert read_lexicon([path]) == {"CAT": ("k", "a", "t")}
    with pytest.raises(UserError, match="line 1 of the lexicon"):
        read_lexicon([path], ("K", "AE1", "T"))
    path.write_text(";;; nothing\n")
    with pytest.raises(UserError, match="has no words"):
        read_lexicon([path])
