"""The lexicon: it has every word of the English grammar, in ARPAbet with stress."""

import re

import pytest

from speechssl.data.pronunciations import LEXICON, pronounce
from speechssl.data.spoken_text import GRAMMARS
from speechssl.errors import UserError

VOWELS = ["AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW"]
CONSONANTS = [
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
]


def test_every_word_of_the_grammar_has_a_pronunciation_and_no_other_has() -> None:
    templates, slots = GRAMMARS["en"]
    phrases = [re.sub(r"{\w+}", " ", template) for template in templates] + [
        p for words in slots.values() for p in words
    ]
    assert {word for phrase in phrases for word in phrase.split()} == set(LEXICON)


def test_phones_are_arpabet_with_stress_on_vowels() -> None:
    phones = {vowel + stress for vowel in VOWELS for stress in "012"} | set(CONSONANTS)
    assert len(phones) == 69
    assert {phone for word in LEXICON.values() for phone in word} <= phones
    for word, spoken in LEXICON.items():
        if word not in ("a", "and", "the"):
            assert sum(phone.endswith("1") for phone in spoken) == 1, word


def test_words_are_said_one_after_the_other_in_any_case() -> None:
    assert pronounce("THE RED box") == ["DH", "AH0", "R", "EH1", "D", "B", "AA1", "K", "S"]
    assert pronounce("") == []


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(UserError, match="no pronunciation of 'giraffe' in 'the giraffe'"):
        pronounce("the giraffe")
