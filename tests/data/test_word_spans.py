"""Spans of words: from tags and from characters, and what cleaning does to them."""

import pytest

from speechssl.data.word_spans import clean, spans_of_characters, spans_of_tags, spoken_words
from speechssl.errors import UserError


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("playlist", ["PLAYLIST"]),
        ("?", []),
        ("'", []),
        ("&", ["AND"]),
        ("r&b", ["R", "AND", "B"]),
        ("hip-hop", ["HIP", "HOP"]),
        ("español", ["ESPANOL"]),
        ("Ōtone,", ["OTONE"]),
        ("it\N{RIGHT SINGLE QUOTATION MARK}s", ["IT'S"]),
        ("snake_case", ["SNAKE", "CASE"]),
        ("5th", ["5TH"]),
    ],
)
def test_spoken_words(token: str, words: list[str]) -> None:
    assert spoken_words(token) == words


def test_neighbours_of_one_name_are_one_span() -> None:
    tags = ["O", "city", "city", "state", "O", "O", "time", "state", "state"]
    assert spans_of_tags(tags) == [["city", 1, 3], ["state", 3, 4], ["time", 6, 7], ["state", 7, 9]]
    assert spans_of_tags(["city"]) == [["city", 0, 1]]
    assert spans_of_tags([]) == spans_of_tags(["O", "O"]) == []


def test_cleaning_moves_spans() -> None:
    tokens = ["play", ",", "hip-hop", "&", "r&b", "by", "!", "madonna"]
    text, spans = clean(tokens, [["genre", 2, 5], ["mark", 6, 7], ["artist", 6, 8]])
    assert text == "PLAY HIP HOP AND R AND B BY MADONNA"
    assert spans == [["genre", 1, 7], ["artist", 8, 9]]  # the span of a punctuation mark is gone
    assert [" ".join(text.split()[first:end]) for _, first, end in spans] == ["HIP HOP AND R AND B", "MADONNA"]
    assert clean([], []) == ("", [])


def test_characters() -> None:
    text = "we agree with  europe's  people in article twenty one."
    entities = [["LAW", text.index("article"), len(text) - 1], ["PLACE", text.index("europe"), text.index("'s")]]
    tokens, spans = spans_of_characters(text, entities)
    assert tokens == ["we", "agree", "with", "europe", "'s", "people", "in", "article", "twenty", "one", "."]
    assert spans == [["PLACE", 3, 4], ["LAW", 7, 10]]
    assert clean(tokens, spans) == (
        "WE AGREE WITH EUROPE 'S PEOPLE IN ARTICLE TWENTY ONE",
        [["PLACE", 3, 4], ["LAW", 7, 10]],
    )
    assert spans_of_characters("one two", []) == (["one", "two"], [])


def test_of_overlapping_spans_the_first_is_kept() -> None:
    assert spans_of_characters("the bank of england", [["ORG", 4, 19], ["PLACE", 12, 19]])[1] == [["ORG", 1, 4]]


@pytest.mark.parametrize("entity", [["LAW", 3, 99], ["LAW", -1, 3], ["LAW", 3, 3], ["LAW", 3, 4]])
def test_spans_outside_the_text_are_refused(entity: list) -> None:
    with pytest.raises(UserError, match=r"characters .* \(LAW\) are not in the text 'one two'"):
        spans_of_characters("one two", [entity])  # character 3 is the blank
