"""Speakers of the synthetic corpus: voices drawn from a continuous space, and what one of them says as an `Item`.

A voice has a pitch, a vocal tract, a spectral slope, breath and a speaking rate of its own, and in English one of
three accents. Every utterance varies in rate and melody and passes through its own room, microphone and noise
(`speechssl.data.room`). All of it depends on the seed and the utterance's id alone.
"""

import functools
from dataclasses import dataclass, replace

import numpy as np

from speechssl.data.espeak import Voice, speak
from speechssl.data.items import Item
from speechssl.data.room import record
from speechssl.data.splits import hash64

ENGLISH = "en"
ACCENTS = ("en-us", "en", "en-gb-scotland")  # names of espeak-ng; "en" is British
PITCH_HZ = {"male": (80, 130), "female": (165, 235)}  # the lowest of ordinary speech
PITCH_SPAN = (1.3, 1.7)  # the highest relative to the lowest
VOCAL_TRACT = {"male": (0.90, 1.05), "female": (1.07, 1.22)}  # formant frequencies relative to the language's own
WORDS_PER_MINUTE = (145, 195)


@dataclass(frozen=True)
class Speaker:
    """Who speaks, and the split of the plain manifests that this is in."""

    name: str
    split: str
    voice: Voice
    accent: str
    rate: int


@dataclass(frozen=True)
class Style:
    """How something is said: ranges that each utterance draws from.

    Attributes:
        pitch: 0 to 99, 50 = the voice's own.
        pitch_range: 0 to 99, 50 = the voice's own; how lively the melody is.
        rate: relative to the speaker's own.
        slope: added to the strength of high frequencies in voiced sounds: negative is dull, positive sharp.
        breath: added to the noise in vowels.
    """

    pitch: tuple[int, int] = (44, 57)  # the upper end is never drawn
    pitch_range: tuple[int, int] = (35, 66)
    rate: tuple[float, float] = (0.9, 1.1)
    slope: tuple[int, int] = (0, 1)
    breath: int = 0


PLAIN = Style()


def draw_speaker(number: int, num_speakers: int, seed: int) -> Speaker:
    """Draw a speaker; women and men alternate, so that every split has both."""
    rng = generator(seed, f"speaker/{number}")
    gender = ("female", "male")[number % 2]
    lowest = rng.uniform(*PITCH_HZ[gender])
    tract = rng.uniform(*VOCAL_TRACT[gender])
    slope = rng.uniform(-30, 30)  # of the voice itself: bright or dull
    voice = Voice(
        gender=gender,
        pitch=(round(lowest), round(lowest * rng.uniform(*PITCH_SPAN))),
        formants=tuple(_formant(formant, tract, rng) for formant in range(9)),
        tone=(600, 170, 1200, round(135 + slope / 2), 2000, round(110 + slope)),
        breath=int(rng.choice([0, 0, 2, 5, 10])),
        consonants=(round(rng.uniform(80, 125)), round(rng.uniform(80, 125))),
    )
    accent, rate = ACCENTS[rng.integers(len(ACCENTS))], round(rng.uniform(*WORDS_PER_MINUTE))
    num_test, num_dev = max(1, num_speakers // 5), max(1, num_speakers * 2 // 15)
    place = num_speakers - 1 - number
    split = "test" if place < num_test else "dev" if place < num_test + num_dev else "train"
    return Speaker(f"s{number:02d}", split, voice, accent, rate)


def _formant(number: int, tract: float, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return frequency, strength and bandwidth in percent; formant 0, a hum below the first, stays put."""
    frequency = 100 if number == 0 else 100 * tract * rng.uniform(0.96, 1.04)
    return round(frequency), round(rng.uniform(80, 115)), round(rng.uniform(85, 130))


def utterance(
    name: str, speaker: Speaker, said: str, split: str, seed: int, language: str = ENGLISH, style: Style = PLAIN
) -> Item:
    """Return an item of a speaker saying something, whose punctuation sets the melody; without a text label."""
    spoken = speaker.accent if language == ENGLISH else language
    audio = functools.partial(utter, said, spoken, speaker.voice, speaker.rate, f"{seed}/{name}", style)
    return Item(name, audio, split, speaker=speaker.name, gender=speaker.voice.gender, language=language)


def sentence(name: str, speaker: Speaker, text: str, split: str, seed: int, language: str = ENGLISH) -> Item:
    """Return an item of a speaker saying a sentence, with its text in upper case."""
    item = utterance(name, speaker, text + ".", split, seed, language)
    item.text = text.upper()
    return item


def utter(said: str, language: str, voice: Voice, rate: int, key: str, style: Style = PLAIN) -> tuple[np.ndarray, int]:
    """Return one recording of a text, mono float32 (S,), and its rate in Hz; `key` decides what varies."""
    rng = np.random.default_rng(hash64(f"utterance/{key}"))
    speech, sample_rate = speak(
        said,
        language,
        _styled(voice, style, key),
        rate=round(rate * rng.uniform(*style.rate)),
        pitch=int(rng.integers(*style.pitch)),
        pitch_range=int(rng.integers(*style.pitch_range)),
        seed=hash64(f"breath/{key}") % 2**31,
    )
    return record(speech, sample_rate, rng), sample_rate


def _styled(voice: Voice, style: Style, key: str) -> Voice:
    """Return the voice as it is in a style; a generator of its own leaves plain utterances as they always were."""
    slope = int(np.random.default_rng(hash64(f"style/{key}")).integers(*style.slope))
    if slope == 0 and style.breath == 0:
        return voice
    middle, high = voice.tone[3] + slope // 2, voice.tone[5] + slope
    tone = (*voice.tone[:3], middle, voice.tone[4], min(max(high, 0), 255))
    return replace(voice, tone=tone, breath=voice.breath + style.breath)


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the random numbers of one thing of a corpus."""
    return np.random.default_rng(hash64(f"{seed}/{name}"))
