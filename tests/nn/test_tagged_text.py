"""Spans in text: symbols, markers, and what is read back from whatever a recogniser writes."""

import random
import sys
from types import SimpleNamespace

import pytest
from rapidfuzz.distance import Levenshtein

from speechssl.nn.tagged_text import END, UNKNOWN, TaggedAlphabet, plain, spans_of, tagged, written

TEXT = "Book a table, for two & me - in New York!"
SPANS = [["number", 4, 7], ["city", 9, 11]]


def test_markers_touch_the_words_of_their_span() -> None:
    symbols = tagged(TEXT, SPANS)
    assert "".join(symbols) == "BOOK A TABLE FOR B-numberTWO AND MEE-number IN B-cityNEW YORKE-city"
    assert written(symbols) == "BOOK A TABLE FOR B-number TWO AND ME E-number IN B-city NEW YORK E-city"
    assert plain(symbols) == "BOOK A TABLE FOR TWO AND ME IN NEW YORK"
    assert spans_of(symbols) == [("number", "TWO AND ME"), ("city", "NEW YORK")]


def test_spans_that_lose_their_words_are_dropped() -> None:
    assert tagged("? go", [["mark", 0, 1], ["verb", 0, 2]]) == ["B-verb", "G", "O", "E-verb"]
    assert tagged("...", [["mark", 0, 1]]) == []


def test_alphabet() -> None:
    alphabet = TaggedAlphabet(["y", "x"])
    assert alphabet.symbols[:5] == ["<pad>", "<eos>", "<unk>", " ", "A"]
    assert alphabet.symbols[-4:] == ["B-x", "E-x", "B-y", "E-y"]
    assert len(TaggedAlphabet(f"slot{n}" for n in range(39))) == 109
    symbols = tagged("it's me", [["x", 1, 2]])
    numbers = alphabet.encode(symbols).tolist()
    assert numbers[-1] == END
    assert alphabet.decode(numbers) == symbols
    assert alphabet.encode(["7", "B-z", "A"]).tolist() == [UNKNOWN, UNKNOWN, 4, END]


def test_what_a_recogniser_gets_wrong() -> None:
    assert spans_of(["B-x", "A"]) == []
    assert spans_of(["A", "E-x"]) == []
    assert spans_of(["B-x", "E-x"]) == []
    assert spans_of(["B-x", "A", "E-y"]) == []
    assert spans_of(["B-y", "A", "B-x", "B", "E-x"]) == [("x", "B")]
    assert spans_of(["B-x", "A", "B-y", "B", "E-y", "E-x", "C"]) == [("x", "AB")]
    assert spans_of(["B-x", "A", "E-x", "E-x", "B-x", "B", " ", "C", "E-x"]) == [("x", "A"), ("x", "B C")]


def test_agrees_with_s3prl(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(eval=Levenshtein.distance)  # s3prl only needs this function of the package
    monkeypatch.setitem(sys.modules, "editdistance", stand_in)
    reference = pytest.importorskip("s3prl.metric.slot_filling", exc_type=ImportError)
    generator = random.Random(0)
    several = 0
    for _ in range(300):
        found: list[str] = []
        for _ in range(generator.randint(1, 7)):  # words with markers that often have no partner
            begin, end = (generator.choices(["", f"{side}-x", f"{side}-yy"], [2, 1, 1])[0] for side in "BE")
            found += [symbol for symbol in (begin, *generator.choice(["A", "AB", "CAB"]), end, " ") if symbol]
        text = "".join(f"{s} " if s[:2] == "B-" else f" {s}" if s[:2] == "E-" else s for s in found)
        ours: dict[str, list[str]] = {}
        for name, value in spans_of(found):
            ours.setdefault(name, []).append(value)
        assert ours == reference.get_slot_dict(text, "")[1], text
        several += len(spans_of(found)) > 1
    assert several > 50
