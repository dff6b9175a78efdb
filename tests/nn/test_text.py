import pytest

from speechssl.nn.text import normalise


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
