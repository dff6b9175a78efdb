"""A small spoken corpus made on the spot with espeak-ng: speakers, keywords, sentences, several languages.

For trying things out without a download. Every speaker is a voice drawn from a continuous space (pitch,
vocal tract, spectral slope, breath) with a speaking rate of its own and, in English, one of three accents.
Every utterance varies in rate and melody and passes through its own room, microphone and noise
(`speechssl.data.room`). All of it depends on the seed and the utterance's id alone: the same seed gives the
same bytes on the same machine.

About two thirds of the speakers are *known*, the others are dev and test speakers (of 30: 20, 4 and 6).

- The plain manifests are for pretraining: train = known speakers, dev and test = the others, all languages.
  **Nothing of a dev or test speaker is in train.** Columns: speaker, gender, language; `text` (upper case)
  of sentences; `keyword` of single words.
- `ks`: the keyword clips, split by speaker likewise. The task is to know words spoken by voices that were
  never heard before, neither with labels nor without.
- `asr`: the English sentences, split by speaker likewise. No sentence occurs twice in the corpus.
- `sid`: the known speakers, a closed set. Train = their English sentences of the plain train manifest; dev
  and test = further sentences of theirs, which are in no other manifest.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechssl.data.espeak import Voice, speak
from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.room import record
from speechssl.data.splits import hash64
from speechssl.data.spoken_text import KEYWORDS, sentences
from speechssl.errors import UserError

LICENCE = (
    "CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/): made by a program from texts written for "
    "it, spoken by espeak-ng (https://github.com/espeak-ng/espeak-ng)."
)
ENGLISH = "en"
ACCENTS = ("en-us", "en", "en-gb-scotland")  # names of espeak-ng; "en" is British
MELODIES = (".", ".", ".", "!", ",", "?")  # how single words are said; most of them fall
FURTHER = {"dev": 3, "test": 5}  # sentences of each known speaker for speaker identification only
MIN_SPEAKERS = 4
PITCH_HZ = {"male": (80, 130), "female": (165, 235)}  # the lowest of ordinary speech
PITCH_SPAN = (1.3, 1.7)  # the highest relative to the lowest
VOCAL_TRACT = {
    "male": (0.90, 1.05),
    "female": (1.07, 1.22),
}  # formant frequencies relative to the language's own
WORDS_PER_MINUTE = (145, 195)


@dataclass(frozen=True)
class Speaker:
    """Who speaks, and the split of the plain manifests that this is in."""

    name: str
    split: str
    voice: Voice
    accent: str
    rate: int


def plan(
    source: str | Path | None = None,
    *,
    seed: int = 0,
    num_speakers: int = 30,
    keyword_takes: int = 2,
    num_sentences: int = 12,
    num_foreign: int = 1,
    languages: Sequence[str] | str = ("en", "de", "es", "fr"),
) -> Preparation:
    """Decide who says what; the audio is made when it is stored.

    Args:
        source: must be None, there is nothing to read.
        seed: of everything.
        num_speakers: at least four.
        keyword_takes: how often each speaker says each keyword.
        num_sentences: English sentences per speaker.
        num_foreign: sentences per speaker in each further language.
        languages: spoken, English among them: a list or names with commas. Known: en, de, es, fr, it.
    """
    names = languages.split(",") if isinstance(languages, str) else list(languages)
    _check(source, names, num_speakers, keyword_takes, num_sentences, num_foreign)
    speakers = [_speaker(number, num_speakers, seed) for number in range(num_speakers)]
    known = [speaker for speaker in speakers if speaker.split == "train"]
    extra = sum(FURTHER.values())
    texts = iter(sentences(ENGLISH, num_speakers * num_sentences + len(known) * extra, seed))
    words = [item for speaker in speakers for item in _keywords(speaker, keyword_takes, seed)]
    english = [item for speaker in speakers for item in _english(speaker, num_sentences, texts, seed)]
    further = {split: [i for s in known for i in _further(s, split, texts, seed)] for split in FURTHER}
    foreign = [item for name in names for item in _foreign(speakers, name, num_foreign, seed)]
    ks, asr = _by_split(words), _by_split(english)
    sid = {"train": asr["train"], "dev": _ids(further["dev"]), "test": _ids(further["test"])}
    views = [View(name, name, "", splits) for name, splits in (("ks", ks), ("asr", asr), ("sid", sid))]
    items = words + english + further["dev"] + further["test"] + foreign
    return Preparation("synthetic", items, LICENCE, views)


def _check(
    source: str | Path | None,
    languages: list[str],
    num_speakers: int,
    keyword_takes: int,
    num_sentences: int,
    num_foreign: int,
) -> None:
    if source is not None:
        raise UserError(f"corpus synthetic is made, not read: leave source= out (found {source})")
    if ENGLISH not in languages:
        raise UserError(f"languages={','.join(languages)}: keywords and sentences are English, so en must be there")
    counts = {
        "num_speakers": (num_speakers, MIN_SPEAKERS),
        "keyword_takes": (keyword_takes, 1),
        "num_sentences": (num_sentences, 1),
        "num_foreign": (num_foreign, 0),
    }
    for name, (value, least) in counts.items():
        if value < least:
            raise UserError(f"{name}={value}: expected at least {least}")


def _speaker(number: int, num_speakers: int, seed: int) -> Speaker:
    """Draw a speaker; women and men alternate, so that every split has both."""
    rng = _generator(seed, f"speaker/{number}")
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


def _keywords(speaker: Speaker, takes: int, seed: int) -> Iterator[Item]:
    for word in KEYWORDS:
        for take in range(takes):
            name = f"{speaker.name}-keyword-{word}-{take}"
            melody = MELODIES[hash64(f"{seed}/melody/{name}") % len(MELODIES)]
            item = _utterance(name, speaker, word + melody, ENGLISH, speaker.split, seed)
            item.custom["keyword"] = word
            yield item


def _english(speaker: Speaker, count: int, texts: Iterator[str], seed: int) -> Iterator[Item]:
    for number in range(count):
        name = f"{speaker.name}-{ENGLISH}-{number:03d}"
        yield _sentence(name, speaker, next(texts), ENGLISH, speaker.split, seed)


def _further(speaker: Speaker, split: str, texts: Iterator[str], seed: int) -> Iterator[Item]:
    """Yield sentences for one split of `sid`; they are in no plain manifest."""
    for number in range(FURTHER[split]):
        name = f"{speaker.name}-sid-{split}-{number}"
        yield _sentence(name, speaker, next(texts), ENGLISH, "", seed)


def _foreign(speakers: list[Speaker], language: str, count: int, seed: int) -> Iterator[Item]:
    if language == ENGLISH:
        return
    texts = iter(sentences(language, len(speakers) * count, seed))
    for speaker in speakers:
        for number in range(count):
            name = f"{speaker.name}-{language}-{number:03d}"
            yield _sentence(name, speaker, next(texts), language, speaker.split, seed)


def _sentence(name: str, speaker: Speaker, text: str, language: str, split: str, seed: int) -> Item:
    item = _utterance(name, speaker, text + ".", language, split, seed)
    item.text = text.upper()
    return item


def _utterance(name: str, speaker: Speaker, text: str, language: str, split: str, seed: int) -> Item:
    spoken = speaker.accent if language == ENGLISH else language
    audio = functools.partial(utter, text, spoken, speaker.voice, speaker.rate, f"{seed}/{name}")
    return Item(name, audio, split, speaker=speaker.name, gender=speaker.voice.gender, language=language)


def utter(text: str, language: str, voice: Voice, rate: int, key: str) -> tuple[np.ndarray, int]:
    """Return one recording of a text, mono float32 (S,), and its rate in Hz; `key` decides what varies."""
    rng = np.random.default_rng(hash64(f"utterance/{key}"))
    speech, sample_rate = speak(
        text,
        language,
        voice,
        rate=round(rate * rng.uniform(0.9, 1.1)),
        pitch=int(rng.integers(44, 57)),
        pitch_range=int(rng.integers(35, 66)),
        seed=hash64(f"breath/{key}") % 2**31,
    )
    return record(speech, sample_rate, rng), sample_rate


def _ids(items: list[Item]) -> list[str]:
    return [item.id for item in items]


def _by_split(items: list[Item]) -> dict[str, list[str]]:
    return {split: _ids([item for item in items if item.split == split]) for split in SPLITS}


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng(hash64(f"{seed}/{name}"))
