"""Commands: every combination in turn, worded as it means."""

import itertools
import re

import numpy as np

from speechssl.data.spoken_commands import INTENTS, LOCATIONS, MISSING, OBJECTS, PLAIN_SENTENCES, WORDINGS, commands


def test_combinations_take_turns_and_some_do_not_exist() -> None:
    drawn = list(itertools.islice(commands(np.random.default_rng(0)), 2 * len(INTENTS)))
    intents = [tuple(command.intent.values()) for command in drawn]
    assert set(intents[: len(INTENTS)]) == set(intents[len(INTENTS) :]) == set(INTENTS)
    assert len(INTENTS) == len(WORDINGS) * len(OBJECTS) * len(LOCATIONS) - len(MISSING) == 29
    assert not set(INTENTS) & MISSING


def test_the_words_tell_the_intent() -> None:
    meanings: dict[str, tuple] = {}
    for command in itertools.islice(commands(np.random.default_rng(1)), 2000):
        intent = (command.action, command.object, command.location)
        assert meanings.setdefault(command.text, intent) == intent
        assert any(word in command.text for word in OBJECTS[command.object])
        assert command.location == "none" or any(where in command.text for where in LOCATIONS[command.location])
    assert len(meanings) > 2 * len(INTENTS)


def test_texts_are_words_and_blanks() -> None:
    texts = [command.text for command in itertools.islice(commands(np.random.default_rng(2)), 100)]
    assert all(re.fullmatch(r"[a-z']+( [a-z']+)+", text) for text in [*texts, *PLAIN_SENTENCES])
