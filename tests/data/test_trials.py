"""Trials: how they are drawn, lists of them, and the column they become."""

from pathlib import Path

import pytest

from speechssl.data.trials import Trial, draw_trials, read_trials, trials_by_first
from speechssl.errors import UserError

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


def test_lists(tmp_path: Path) -> None:
    path = tmp_path / "trials.txt"
    path.write_text("1 a/x/1.wav a/y/1.wav\n0 a/x/1.wav b/x/1.wav\n\n0 b/x/1.wav a/y/1.wav\n")
    trials = read_trials(path)
    assert trials[0] == Trial("a/x/1.wav", "a/y/1.wav", 1)
    assert trials_by_first(trials) == {
        "a/x/1.wav": [["a/y/1.wav", 1], ["b/x/1.wav", 0]],
        "b/x/1.wav": [["a/y/1.wav", 0]],
    }


@pytest.mark.parametrize("line", ["a/x/1.wav b/x/1.wav", "2 a b", "1 a b c"])
def test_errors_name_the_entry(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trials.txt"
    path.write_text(f"1 a b\n{line}\n")
    with pytest.raises(UserError, match=r"entry 2: expected `1 first second`"):
        read_trials(path)
    with pytest.raises(UserError, match=r"missing.txt cannot be read"):
        read_trials(tmp_path / "missing.txt")
