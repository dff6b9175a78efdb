"""Two voices in turns that overlap, in the noise of a room, with who speaks when known to the sample.

For diarization without published mixtures. LibriMix (Cosentino et al., 2020, https://arxiv.org/abs/2005.11262), which
SUPERB uses, puts one utterance of each speaker over the other; here they take turns and interrupt each other, as
people do. The plan comes first and the speech is fitted to it: each turn is spoken at the rate that fills its time, so
who speaks when needs no measuring.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechssl.data.espeak import speak
from speechssl.data.room import amplitude, rms, through_room, trim, with_noise
from speechssl.data.splits import hash64
from speechssl.data.synthetic_voices import Speaker

SECONDS = (6.0, 10.0)
LEAD_SECONDS = (0.2, 0.7)  # before the first turn and after the last
OVERLAP = (0.10, 0.25)  # share of the time with speech in which both speak
OFFSET_SECONDS = (-1.2, 0.4)  # from the end of a turn to the start of the next
BREATH_SECONDS = 0.15  # least time between two turns of one speaker
LEVEL_DB = 4.0  # the second speaker is up to this much louder or softer
SNR_DB = (12.0, 30.0)
SECONDS_PER_LETTER, SECONDS_MORE, AT_RATE = 0.047, 0.22, 170  # how long a text takes at 170 words per minute, measured
SLOWER = 0.985  # than needed: what is too long is cut off at the end
SLOWEST = 80  # words per minute, of espeak-ng
FADE_SECONDS = 0.01


@dataclass(frozen=True)
class Turn:
    """One of the two speakers saying something, in seconds from the start of the recording."""

    speaker: int
    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Conversation:
    """Who says what when."""

    speakers: tuple[Speaker, Speaker]
    turns: tuple[Turn, ...]
    seconds: float

    @property
    def activity(self) -> list[list]:
        """Return [speaker, start, end] of every turn in seconds, for the label column."""
        return [[self.speakers[turn.speaker].name, turn.start, turn.end] for turn in self.turns]


def plan_conversation(
    speakers: tuple[Speaker, Speaker], texts: Sequence[str], rng: np.random.Generator
) -> Conversation:
    """Draw turns until they overlap as much, and last as long, as they should."""
    while True:
        turns = _draw_turns(speakers, texts, rng)
        seconds = round(turns[-1].end + rng.uniform(*LEAD_SECONDS), 3)
        seconds = max(seconds, round(max(turn.end for turn in turns) + LEAD_SECONDS[0], 3))
        if SECONDS[0] <= seconds <= SECONDS[1] and OVERLAP[0] <= overlap_share(turns) <= OVERLAP[1]:
            return Conversation(speakers, turns, seconds)


def _draw_turns(speakers: tuple[Speaker, Speaker], texts: Sequence[str], rng: np.random.Generator) -> tuple[Turn, ...]:
    """Return three to six turns, of the one speaker and the other."""
    turns: list[Turn] = []
    time = rng.uniform(*LEAD_SECONDS)
    who = int(rng.integers(2))
    for _ in range(rng.integers(3, 7)):
        text = texts[rng.integers(len(texts))]
        length = (SECONDS_PER_LETTER * len(text) + SECONDS_MORE) * AT_RATE / speakers[who].rate
        own_end = turns[-2].end + BREATH_SECONDS if len(turns) > 1 else 0.0
        start = max(time, own_end, turns[-1].start + BREATH_SECONDS if turns else 0.0)
        turns.append(Turn(who, text, round(start, 3), round(start + length * rng.uniform(0.9, 1.1), 3)))
        time = turns[-1].end + rng.uniform(*OFFSET_SECONDS)
        who = 1 - who
    return tuple(turns)


def overlap_share(turns: Sequence[Turn]) -> float:
    """Return the seconds in which more than one speaks, divided by those in which any does."""
    edges = sorted({time for turn in turns for time in (turn.start, turn.end)})
    any_seconds = both_seconds = 0.0
    for first, last in itertools.pairwise(edges):
        count = sum(turn.start <= first and turn.end >= last for turn in turns)
        any_seconds += (last - first) * (count > 0)
        both_seconds += (last - first) * (count > 1)
    return both_seconds / any_seconds


def converse(conversation: Conversation, key: str) -> tuple[np.ndarray, int]:
    """Return the recording, mono float32 (S,), and its rate in Hz; `key` decides what the plan leaves open."""
    rng = np.random.default_rng(hash64(f"conversation/{key}"))
    spoken = [
        _fill(turn, conversation.speakers[turn.speaker], f"{key}/{n}") for n, turn in enumerate(conversation.turns)
    ]
    sample_rate = spoken[0][1]
    tracks = np.zeros((2, round(conversation.seconds * sample_rate)))
    for turn, (speech, _) in zip(conversation.turns, spoken, strict=True):
        first = round(turn.start * sample_rate)
        tracks[turn.speaker, first : first + len(speech)] += speech / rms(speech)
    gains = (1.0, amplitude(rng.uniform(-LEVEL_DB, LEVEL_DB)))
    heard = sum(
        gain * _level(through_room(track, sample_rate, rng), track) for gain, track in zip(gains, tracks, strict=True)
    )
    return with_noise(heard, 1.0, rng, SNR_DB), sample_rate


def _level(heard: np.ndarray, track: np.ndarray) -> np.ndarray:
    """Return samples whose root mean square is 1 where the speaker speaks."""
    return heard / rms(heard[track != 0])


def _fill(turn: Turn, speaker: Speaker, key: str) -> tuple[np.ndarray, int]:
    """Return the speech of a turn, as long as the turn, and its rate in Hz."""
    rng = np.random.default_rng(hash64(f"turn/{key}"))
    pitch, pitch_range = int(rng.integers(44, 57)), int(rng.integers(35, 66))
    seed = hash64(f"breath/{key}") % 2**31

    def say(rate: int) -> tuple[np.ndarray, int]:
        speech, sample_rate = speak(
            turn.text + ".", speaker.accent, speaker.voice, rate=rate, pitch=pitch, pitch_range=pitch_range, seed=seed
        )
        return trim(speech, sample_rate), sample_rate

    speech, sample_rate = say(speaker.rate)
    wanted = round((turn.end - turn.start) * sample_rate)
    rate = int(speaker.rate * len(speech) / wanted * SLOWER)
    speech = say(rate)[0]
    while len(speech) < wanted and rate > SLOWEST:
        rate -= 1
        speech = say(rate)[0]
    speech = speech[:wanted].copy()
    fade = round(FADE_SECONDS * sample_rate)
    speech[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return speech, sample_rate
