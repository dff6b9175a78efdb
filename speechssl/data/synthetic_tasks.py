"""What the synthetic corpus has for the tasks of a benchmark: a view per task, and the utterances it needs beside.

Utterances made here are in views only. Known speakers are in train, other voices in dev and test; but for styles and
sentiment, which divide the known speakers.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from speechssl.data.items import SPLITS, Item, View
from speechssl.data.pronunciations import pronounce
from speechssl.data.sound_events import sound_events
from speechssl.data.splits import hash64
from speechssl.data.spoken_commands import PLAIN_SENTENCES, commands
from speechssl.data.spoken_text import ENTITIES, SLOTS, sentences
from speechssl.data.synthetic_pairs import conversations, search, verification
from speechssl.data.synthetic_views import Basic, Splits, Task, column, joined
from speechssl.data.synthetic_voices import PLAIN, Speaker, Style, generator, sentence, utterance

COMMANDS = {"train": 20, "dev": 18, "test": 24}  # of each speaker
STYLES = {  # they overlap, as feelings do, and a speaker's own voice is as far from another's
    "neutral": PLAIN,
    "happy": Style((60, 92), (60, 99), (0.98, 1.22), (5, 26)),
    "angry": Style((46, 72), (45, 86), (1.05, 1.3), (45, 90)),
    "sad": Style((26, 48), (12, 48), (0.75, 0.98), (-60, -25), breath=10),
}
MELODIES = {"neutral": "...", "happy": "!!.", "angry": "!..", "sad": "..,"}  # ends of a sentence, one of which is drawn
SENTIMENTS = {"neutral": "neutral", "happy": "positive", "angry": "negative", "sad": "negative"}
STYLE_SENTENCES = 6  # that each speaker says in each style
STYLE_FOLDS = 5
LANGUAGE_SENTENCES = {"train": 3, "dev": 6, "test": 6}  # of each speaker in each language


def all_tasks(basic: Basic) -> tuple[list[Item], list[View]]:
    """Return new items, and the views of all tasks that the corpus has speakers and languages enough for."""
    makers = (_labelled, _commands, _styles, _languages, _events, conversations, verification, search)
    tasks = [task for make in makers for task in make(basic)]
    accents = {speaker.name: speaker.accent for speaker in basic.speakers}
    return [item for task in tasks for item in task.new], [task.view(accents) for task in tasks]


def _labelled(basic: Basic) -> Iterator[Task]:
    """Yield further labels of utterances that the plain corpus has."""
    readers: dict[str, tuple[str, Callable[[Item], Any]]] = {
        "pr": ("phones", lambda item: pronounce(item.text)),
        "sf": ("slots", lambda item: basic.meaning[item.text].spans(SLOTS)),
        "ner": ("entities", lambda item: basic.meaning[item.text].spans(ENTITIES)),
    }
    for name, (label, read) in readers.items():
        yield Task(name, basic.english, columns={label: column(read, basic.english)})
    genders = column(lambda item: item.gender, basic.keywords)
    yield Task("classify", basic.keywords, columns={"label": genders})


def _commands(basic: Basic) -> Iterator[Task]:
    splits: Splits = {split: [] for split in SPLITS}
    for split, items in splits.items():
        stream = commands(generator(basic.seed, f"commands/{split}"))
        for speaker, number in itertools.product(basic.of(split), range(COMMANDS[split])):
            command = next(stream)
            item = sentence(f"{speaker.name}-command-{number:02d}", speaker, command.text, "", basic.seed)
            item.custom["intent"] = command.intent
            items.append(item)
    yield Task("ic", splits, joined(splits))


def _styles(basic: Basic) -> Iterator[Task]:
    """Yield the folds of emotion recognition and its sentiment: no speaker of one split is in another."""
    known = basic.of("train")
    if len(known) < STYLE_FOLDS:
        return
    pairs = len(known) >= 2 * STYLE_FOLDS  # then each fold has women and men
    spoken: list[list[Item]] = [[] for _ in range(STYLE_FOLDS)]
    for number, speaker in enumerate(known):
        spoken[(number // 2 if pairs else number) % STYLE_FOLDS] += _in_all_styles(speaker, basic.seed)
    everything = [item for items in spoken for item in items]
    for fold in range(STYLE_FOLDS):
        test, dev, *train = spoken[fold:] + spoken[:fold]
        splits = {"train": [item for items in train for item in items], "dev": dev, "test": test}
        if fold == 0:
            yield Task("sentiment", splits, everything)
        yield Task("er", splits, fold=f"fold{fold + 1}")


def _in_all_styles(speaker: Speaker, seed: int) -> Iterator[Item]:
    """Yield the same sentences in every style."""
    texts = generator(seed, f"style/{speaker.name}").permutation(PLAIN_SENTENCES)[:STYLE_SENTENCES].tolist()
    for (emotion, style), (number, text) in itertools.product(STYLES.items(), enumerate(texts)):
        name = f"{speaker.name}-style-{emotion}-{number}"
        end = MELODIES[emotion][hash64(f"{seed}/melody/{name}") % len(MELODIES[emotion])]
        item = utterance(name, speaker, text + end, "", seed, style=style)
        item.text = text.upper()
        item.custom |= {"emotion": emotion, "sentiment": SENTIMENTS[emotion]}
        yield item


def _languages(basic: Basic) -> Iterator[Task]:
    """Yield language identification: sentences of the plain corpus and, where it has too few, further ones."""
    if not basic.foreign:
        return
    splits: Splits = {split: [] for split in SPLITS}
    new: list[Item] = []
    for speaker in basic.speakers:
        splits[speaker.split] += _first_of(speaker, basic.english)
    for language, spoken in basic.foreign.items():
        used = len(joined(spoken))
        further = sum(LANGUAGE_SENTENCES[speaker.split] for speaker in basic.speakers)
        texts = iter(sentences(language, used + further, basic.seed)[used:])
        for speaker in basic.speakers:
            items = _first_of(speaker, spoken)
            for number in range(len(items), LANGUAGE_SENTENCES[speaker.split]):
                name = f"{speaker.name}-{language}-lid-{number}"
                items.append(sentence(name, speaker, next(texts), "", basic.seed, language))
                new.append(items[-1])
            splits[speaker.split] += items
    yield Task("lid", splits, new)


def _first_of(speaker: Speaker, splits: Splits) -> list[Item]:
    own = [item for item in splits[speaker.split] if item.speaker == speaker.name]
    return own[: LANGUAGE_SENTENCES[speaker.split]]


def _events(basic: Basic) -> Iterator[Task]:
    splits = sound_events(basic.seed)
    yield Task("aec", splits, joined(splits))
