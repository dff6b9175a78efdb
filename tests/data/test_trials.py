"""Trials: how they are drawn, and the column they become."""

from speechssl.data.trials import draw_trials, trials_by_first
from speechssl.metrics.trial_list import Trial

SPEAKERS = {s: [f"{s}-{video}-{take}" for video in "xyz" for take in range(4)] for s in "abcdef"}


def session(name: str) -> str:
    return name.rsplit("-", 1)[0]


def test_half_of_one_speaker_in_different_sessions() -> None:
    trials = draw_trials(SPEAKERS, 200, "key", session)
    assert [sum(t.same == same for t in trials) for same in (1, 0)] == [100, 100]
    assert all((t.first[0] == t.second[0]) == bool(t.same) for t in trials)
    assert all(session(t.first) != session(t.second) for t in trials)
    assert len({frozenset(t[:2]) for t in trials}) == 200  # no pair twice
    assert {t.first[0] for t in trials if t.same} == set(SPEAKERS)


def test_only_the_key_decides() -> None:
    shuffled = {name: SPEAKERS[name] for name in reversed(SPEAKERS)}
    assert draw_trials(SPEAKERS, 50, "key", session) == draw_trials(shuffled, 50, "key", session)
    assert draw_trials(SPEAKERS, 50, "key", session) != draw_trials(SPEAKERS, 50, "other", session)


def test_fewer_pairs_than_asked_for() -> None:
    few = {"a": ["a-x-1", "a-y-1"], "b": ["b-x-1"]}
    trials = draw_trials(few, 100, "key", session)
    found = {(frozenset(t[:2]), t.same) for t in trials}
    across = {(frozenset(("a-x-1", "b-x-1")), 0), (frozenset(("a-y-1", "b-x-1")), 0)}
    assert found == {(frozenset(("a-x-1", "a-y-1")), 1)} | across
    assert len(trials) == 3
    assert draw_trials({"b": ["b-x-1"]}, 10, "key", session) == []
    assert draw_trials({}, 10, "key", session) == []


def test_the_column_is_by_first_utterance() -> None:
    trials = [Trial("a", "b", 1), Trial("a", "c", 0), Trial("c", "b", 0)]
    assert trials_by_first(trials) == {"a": [["b", 1], ["c", 0]], "c": [["b", 0]]}
