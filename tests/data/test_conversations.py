"""Conversations of two voices: the plan's overlap, and that the audio keeps to the plan."""

import importlib.util
import itertools

import numpy as np
import pytest

from speechssl.data import conversations
from speechssl.data.conversations import Conversation, Turn, converse, overlap_share, plan_conversation
from speechssl.data.synthetic_voices import draw_speaker

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'speechssl[demo]')",
)
TEXTS = (
    "the ladder is heavy and old",
    "let's wait here tonight",
    "my brother found seven wooden boxes",
    "it's dark by the fire",
)


def planned(seed: int) -> Conversation:
    both = (draw_speaker(2 * seed, 30, 0), draw_speaker(2 * seed + 1, 30, 0))
    return plan_conversation(both, TEXTS, np.random.default_rng(seed))


def test_overlap_is_counted_by_the_time() -> None:
    turns = [Turn(0, "", 0.0, 2.0), Turn(1, "", 1.5, 3.0), Turn(0, "", 4.0, 5.0)]
    assert overlap_share(turns) == pytest.approx(0.5 / 4.0)
    assert overlap_share(turns[:1]) == 0.0


@pytest.mark.parametrize("seed", range(8))
def test_plans_keep_to_their_limits(seed: int) -> None:
    plan = planned(seed)
    assert 6.0 <= plan.seconds <= 10.0
    assert 0.10 <= overlap_share(plan.turns) <= 0.25
    assert {turn.speaker for turn in plan.turns} == {0, 1}
    assert all(0 < turn.start < turn.end < plan.seconds for turn in plan.turns)
    for who in (0, 1):
        own = [turn for turn in plan.turns if turn.speaker == who]
        assert all(before.end < after.start for before, after in itertools.pairwise(own))
    names = {speaker.name for speaker in plan.speakers}
    assert {name for name, _, _ in plan.activity} == names
    assert [(start, end) for _, start, end in plan.activity] == [(turn.start, turn.end) for turn in plan.turns]


@needs_espeak
@pytest.mark.parametrize("seed", range(4))
def test_it_is_loud_when_the_plan_says_so(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "SNR_DB", (70.0, 70.0))
    monkeypatch.setattr(conversations, "through_room", lambda track, rate, rng: track)
    plan = planned(seed)
    samples, rate = converse(plan, "key")
    assert len(samples) == round(plan.seconds * rate)
    spoken = np.zeros(len(samples), bool)
    for _, start, end in plan.activity:
        spoken[round(start * rate) : round(end * rate)] = True
        for edge in (start, end - 0.05):  # speech begins and ends where it says, but for closed lips
            assert np.abs(samples[round(edge * rate) :][: rate // 20]).max() > 0.02 * np.abs(samples).max()
    assert np.abs(samples[~spoken]).max() < 0.005 * np.abs(samples).max()
    frames = np.abs(samples[spoken][: spoken.sum() // 1000 * 1000]).reshape(-1, 1000).max(axis=1)
    assert (frames > 0.01 * frames.max()).mean() > 0.9  # the rest are closures of stops


@needs_espeak
def test_every_turn_is_filled() -> None:
    plan = planned(1)
    for number, turn in enumerate(plan.turns):
        speech, rate = conversations._fill(turn, plan.speakers[turn.speaker], f"key/{number}")
        assert len(speech) == round((turn.end - turn.start) * rate)


@needs_espeak
def test_the_key_decides_the_rest() -> None:
    plan = planned(0)
    first, same, other = (converse(plan, key)[0] for key in ("a", "a", "b"))
    np.testing.assert_array_equal(first, same)
    assert len(other) == len(first)
    assert (other != first).any()
    assert 0.02 < np.abs(first).max() < 0.99
