import pytest

from speechssl.nn.text import normalise, upper_words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Hello,  wörld! It\N{RIGHT SINGLE QUOTATION MARK}s me - 'quoted'. ", "HELLO WORLD IT'S ME 'QUOTED'"),
        ("a_b 7", "A B 7"),
        ("...", ""),
        ("' '", ""),
    ],
)
def test_text_is_normalised(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe,  über'm Cafe\N{COMBINING ACUTE ACCENT}!", "GRÖSSE ÜBER'M CAFÉ"),
        ("क्या हाल है?", "क्या हाल है"),
        ("«раз» — два\N{RIGHT SINGLE QUOTATION MARK}", "РАЗ ДВА'"),
        ("ﻻ a\N{ZERO WIDTH JOINER}b 7", "لا AB 7"),
        ("...", ""),
    ],
)
def test_words_of_any_script(text: str, expected: str) -> None:
    assert upper_words(text) == expected
    assert upper_words(expected) == expected
