"""Markdown of cards: nothing in a name breaks a table, a fence or the front matter."""

import pytest
import yaml

from speechssl.deploy import card_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("l1_time", r"l1\_time"),
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("two\nlines", "two lines"),
        ("a_b https://a.org/c_d (e_f)", r"a\_b https://a.org/c_d (e\_f)"),
        ("[x](y)", r"\[x\](y)"),
    ],
)
def test_text_is_shown_as_it_is(value: str, shown: str) -> None:
    assert card_text.escaped(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(True, "yes"), (False, "no"), (1234567, "1,234,567"), (0.123456, "0.1235"), ("a_b", r"a\_b")]
)
def test_numbers(value: object, shown: str) -> None:
    assert card_text.number(value) == shown


def test_code_holds_backquotes_and_bars() -> None:
    assert card_text.code("plain") == "`plain`"
    assert card_text.code("a|b", cell=False) == "`a|b`"
    assert (card_text.code(" "), card_text.code("")) == ('`" "`', '`""`')  # the space among the symbols of asr
    assert card_text.code("a`b|c") == r"`` a`b\|c ``"
    assert card_text.fenced("a\n```\nb", "sh") == "````sh\na\n```\nb\n````"


def test_commands_do_not_tell_where_the_program_lay() -> None:
    assert card_text.command("/home/me/bin/speechssl list") == "```sh\nspeechssl list\n```"
    assert card_text.command("/x/speechssl/commands/main.py list") == "```sh\nspeechssl list\n```"
    assert card_text.command("") == ""


def test_tables_leave_out_what_is_nowhere() -> None:
    assert card_text.table(["a", "b"], [["1", ""], ["2", ""]]) == "| a |\n| --- |\n| 1 |\n| 2 |"
    assert card_text.table(["a"], []) == ""
    assert card_text.facts({"a": None, "b": ""}) == ""
    assert card_text.section("Empty", "", "") == ""


def test_front_matter_is_yaml() -> None:
    front = {"license": "cc-by-4.0", "tags": ["a: b", "no"], "language": [], "pipeline_tag": None}
    text = card_text.document(front, "Title", ["", "text"])
    _, head, rest = text.split("---\n", 2)
    assert yaml.safe_load(head) == {"license": "cc-by-4.0", "tags": ["a: b", "no"]}
    assert rest == "\n# Title\n\ntext\n"
