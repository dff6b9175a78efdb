"""A small spoken corpus made on the spot with espeak-ng: speakers, keywords, sentences, several languages.

For trying things out without a download. Who speaks and how is in `speechssl.data.synthetic_voices`. All of it depends
on the seed and the utterance's id alone: the same seed gives the same bytes on the same machine.

About two thirds of the speakers are *known*, the others are dev and test speakers (of 30: 20, 4 and 6).

- The plain manifests are for pretraining: train = known speakers, dev and test = the others, all languages.
  **Nothing of a dev or test speaker is in train.** Columns: speaker, gender, language; `text` (upper case)
  of sentences; `keyword` of single words.
- `ks`: the keyword clips, split by speaker likewise. The task is to know words spoken by voices that were
  never heard before, neither with labels nor without.
- `asr`: the English sentences, split by speaker likewise. No sentence occurs twice in the corpus.
- `sid`: the known speakers, a closed set. Train = their English sentences of the plain train manifest; dev
  and test = further sentences of theirs, which are in no other manifest.

With `tasks="all"` there is a view for every other task, too (`speechssl.data.synthetic_tasks`):

- `pr`, `sf`, `ner`: the sentences of `asr` with `phones`, `slots` and `entities`; `classify`: the clips of `ks` with
  the speaker's gender as `label`; `asv`: the sentences of `asr` with `trials` of pairs of dev or of test utterances.
- `ic`: commands with three slots in the column `intent`. `lid`: sentences of all languages. Both split by speaker.
- `er/fold1` to `er/fold5`: sentences of the known speakers in four styles (`emotion`); a fifth of the speakers are dev
  and a fifth test speakers of each fold. `sentiment`: the same, divided as in the first fold.
- `sd`: two speakers in turns that overlap, with `activity`; the speakers of a split are in no other.
- `qbe`: sentences of dev and test speakers, and words and short phrases said by known speakers to search in them, with
  the ids of the sentences that are `relevant`. `aec`: computed sounds that are no speech, with `label`.

Few speakers do not give all of them: `sd` and `asv` need two in dev (`num_speakers` 15 or more), `er` and `sentiment`
five known ones (7 or more), `lid` needs a second language, `asv` two sentences of each speaker.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.splits import hash64
from speechssl.data.spoken_text import KEYWORDS, Sentence, parsed_sentences, sentences
from speechssl.data.synthetic_tasks import all_tasks
from speechssl.data.synthetic_views import Basic
from speechssl.data.synthetic_voices import ENGLISH, Speaker, draw_speaker, sentence, utterance
from speechssl.errors import UserError, nearest

LICENCE = (
    "CC0 1.0 (https://creativecommons.org/publicdomain/zero/1.0/): made by a program from texts written for "
    "it, spoken by espeak-ng (https://github.com/espeak-ng/espeak-ng)."
)
MELODIES = (".", ".", ".", "!", ",", "?")  # how single words are said; most of them fall
FURTHER = {"dev": 3, "test": 5}  # sentences of each known speaker for speaker identification only
MIN_SPEAKERS = 4
TASKS = ("all", "basic")


def plan(
    source: str | Path | None = None,
    *,
    seed: int = 0,
    num_speakers: int = 30,
    keyword_takes: int = 2,
    num_sentences: int = 12,
    num_foreign: int = 1,
    languages: Sequence[str] | str = ("en", "de", "es", "fr"),
    tasks: str = "all",
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
        tasks: "all", or "basic" for the plain manifests, `ks`, `asr` and `sid` only.
    """
    names = languages.split(",") if isinstance(languages, str) else list(languages)
    _check(source, names, num_speakers, keyword_takes, num_sentences, num_foreign)
    _check_tasks(tasks)
    speakers = [draw_speaker(number, num_speakers, seed) for number in range(num_speakers)]
    known = [speaker for speaker in speakers if speaker.split == "train"]
    extra = sum(FURTHER.values())
    spoken = parsed_sentences(ENGLISH, num_speakers * num_sentences + len(known) * extra, seed)
    texts = iter(spoken)
    words = [item for speaker in speakers for item in _keywords(speaker, keyword_takes, seed)]
    english = [item for speaker in speakers for item in _english(speaker, num_sentences, texts, seed)]
    further = {split: [i for s in known for i in _further(s, split, texts, seed)] for split in FURTHER}
    foreign = {name: _foreign(speakers, name, num_foreign, seed) for name in names if name != ENGLISH}
    ks, asr = _by_split(words), _by_split(english)
    views = [
        View(name, name, "", {split: [item.id for item in items] for split, items in splits.items()})
        for name, splits in (("ks", ks), ("asr", asr), ("sid", {"train": asr["train"], **further}))
    ]
    items = words + english + further["dev"] + further["test"] + [i for said in foreign.values() for i in said]
    if tasks == "all":
        meaning = {sentence.text.upper(): sentence for sentence in spoken}
        by_language = {name: _by_split(said) for name, said in foreign.items()}
        more = all_tasks(Basic(speakers, ks, asr, by_language, meaning, seed))
        items, views = items + more[0], views + more[1]
    return Preparation("synthetic", items, LICENCE, views, task_size="debug")


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


def _check_tasks(tasks: str) -> None:
    if tasks not in TASKS:
        raise UserError(f"tasks={tasks}: expected one of {', '.join(TASKS)}{nearest(tasks, TASKS)}")


def _keywords(speaker: Speaker, takes: int, seed: int) -> Iterator[Item]:
    for word in KEYWORDS:
        for take in range(takes):
            name = f"{speaker.name}-keyword-{word}-{take}"
            melody = MELODIES[hash64(f"{seed}/melody/{name}") % len(MELODIES)]
            item = utterance(name, speaker, word + melody, speaker.split, seed)
            item.custom["keyword"] = word
            yield item


def _english(speaker: Speaker, count: int, texts: Iterator[Sentence], seed: int) -> Iterator[Item]:
    for number in range(count):
        name = f"{speaker.name}-{ENGLISH}-{number:03d}"
        yield sentence(name, speaker, next(texts).text, speaker.split, seed)


def _further(speaker: Speaker, split: str, texts: Iterator[Sentence], seed: int) -> Iterator[Item]:
    """Yield sentences for one split of `sid`; they are in no plain manifest."""
    for number in range(FURTHER[split]):
        name = f"{speaker.name}-sid-{split}-{number}"
        yield sentence(name, speaker, next(texts).text, "", seed)


def _foreign(speakers: list[Speaker], language: str, count: int, seed: int) -> list[Item]:
    texts = iter(sentences(language, len(speakers) * count, seed))
    return [
        sentence(f"{speaker.name}-{language}-{number:03d}", speaker, next(texts), speaker.split, seed, language)
        for speaker in speakers
        for number in range(count)
    ]


def _by_split(items: list[Item]) -> dict[str, list[Item]]:
    return {split: [item for item in items if item.split == split] for split in SPLITS}
