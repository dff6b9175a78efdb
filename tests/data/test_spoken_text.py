"""Grammars: alphabet, vocabulary, no sentence twice."""

import re

import pytest

from speechssl.data.spoken_text import ENTITIES, GRAMMARS, KEYWORDS, SLOTS, Sentence, parsed_sentences, sentences
from speechssl.errors import UserError


def test_english_is_letters_and_apostrophes() -> None:
    texts = sentences("en", 5000, seed=0)
    assert len(set(texts)) == 5000
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)+", text) for text in texts)
    words = {word for text in texts for word in text.split()}
    assert 100 < len(words) < 300
    assert {"don't", "let's", "it's"} <= words


@pytest.mark.parametrize("language", list(GRAMMARS))
def test_sentences_are_filled_in_and_of_speakable_length(language: str) -> None:
    texts = sentences(language, 200, seed=3)
    assert len(set(texts)) == 200
    assert not any("{" in text or "  " in text for text in texts)
    assert all(3 <= len(text.split()) <= 16 for text in texts)


@pytest.mark.parametrize("language", list(GRAMMARS))
def test_parts_are_the_words_that_fill_the_templates(language: str) -> None:
    slots = GRAMMARS[language][1]
    parsed = parsed_sentences(language, 200, seed=3)
    assert [sentence.text for sentence in parsed] == sentences(language, 200, seed=3)
    for sentence in parsed:
        words = sentence.text.split()
        assert all(" ".join(words[first:end]) in slots[name] for name, first, end in sentence.parts)
        assert all(a[2] <= b[1] for a, b in zip(sentence.parts, sentence.parts[1:], strict=False))


def test_spans_name_slots_and_entities() -> None:
    sentence = Sentence("i want a red box after lunch", (("kind", 3, 4), ("thing", 4, 5), ("when", 5, 7)))
    assert sentence.spans(SLOTS) == [["colour", 3, 4], ["when", 5, 7]]
    assert sentence.spans(ENTITIES) == [["DATE", 5, 7]]
    assert Sentence("i want a wooden box", (("kind", 3, 4), ("thing", 4, 5))).spans(SLOTS) == []


def test_a_longer_list_starts_like_a_shorter_one() -> None:
    assert sentences("en", 300, seed=1)[:40] == sentences("en", 40, seed=1)


def test_seed_decides() -> None:
    assert sentences("de", 50, seed=0) != sentences("de", 50, seed=1)


def test_the_templates_take_turns() -> None:
    starts = {text.split()[0] for text in sentences("en", 16, seed=0)}
    assert {"don't", "let's", "it's", "who", "i"} <= starts


def test_keywords_are_different_words() -> None:
    assert len(set(KEYWORDS)) == len(KEYWORDS) == 12


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match="makes 6048 sentences, 10000"):
        sentences("it", 10000, seed=0)


def test_unknown_language_names_the_known() -> None:
    with pytest.raises(UserError, match="known: en, de, es, fr, it"):
        sentences("nl", 1, seed=0)
