import pytest

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.probe.keys import readable, utterance_keys


def test_a_split_of_which_nothing_can_be_read_says_why(words: Corpus) -> None:
    table = words.table("dev")
    keys = utterance_keys(words, table)
    assert readable(words, table, {keys[1]: "truncated"}, "dev") == [0, *range(2, len(keys))]
    reasons = {key: f"file {number} is truncated" for number, key in enumerate(keys)}
    with pytest.raises(UserError, match=r"none of the 24 utterances in dev of words is readable; the first: file 0 is"):
        readable(words, table, reasons, "dev")
