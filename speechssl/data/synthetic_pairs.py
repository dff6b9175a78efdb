"""The synthetic corpus's tasks of more than one utterance: diarization, speaker verification, spoken word search."""

import itertools
from collections import Counter
from collections.abc import Iterator
from functools import partial

from speechssl.data.conversations import converse, plan_conversation
from speechssl.data.items import SPLITS, Item
from speechssl.data.splits import hash64
from speechssl.data.spoken_text import sentences
from speechssl.data.synthetic_views import Basic, Splits, Task, joined
from speechssl.data.synthetic_voices import ENGLISH, Speaker, Style, generator, utterance

CONVERSATIONS = 4  # per speaker of a split
CONVERSATION_TEXTS = 500
TRIALS = {"dev": 360, "test": 640}  # at most; half of them of the same speaker
DOCUMENTS = {"dev": 36, "test": 54}  # sentences to search, by the split of their speakers; all queries search all
QUERY_VOICES = 2  # that say each query, a woman and a man
CLEARLY = Style(rate=(0.75, 0.9))
QUERIES = {"dev": 16, "test": 24}  # words and phrases of the documents
ABSENT_QUERIES = {  # content words that the English grammar does not have
    "dev": ("umbrella", "potato", "cinema", "hospital"),
    "test": ("elephant", "dinosaur", "guitar", "volcano", "museum", "pillow"),
}
SEARCHED = (
    "kind",
    "thing",
    "things",
    "place",
    "who",
    "did",
    "number",
    "when",
    "state",
)
LEAST_LETTERS = 5  # of a query, blanks too
OFTEN = 3  # documents with a phrase: one alone says little of a system


def conversations(basic: Basic) -> Iterator[Task]:
    """Yield diarization: pairs of speakers of one split take turns."""
    if any(len(basic.of(split)) < 2 for split in SPLITS):
        return
    texts = sentences(ENGLISH, CONVERSATION_TEXTS, basic.seed)
    splits: Splits = {split: [] for split in SPLITS}
    for split, items in splits.items():
        speakers = basic.of(split)
        pairs = list(itertools.combinations(speakers, 2))
        order = generator(basic.seed, f"conversations/{split}").permutation(len(pairs)).tolist()
        for number in range(CONVERSATIONS * len(speakers)):
            items.append(_conversation(pairs[order[number % len(pairs)]], number, texts, basic.seed))
    yield Task("sd", splits, joined(splits))


def _conversation(both: tuple[Speaker, Speaker], number: int, texts: list[str], seed: int) -> Item:
    name = f"{both[0].name}-{both[1].name}-{number:03d}"
    plan = plan_conversation(both, texts, generator(seed, f"conversation/{name}"))
    audio = partial(converse, plan, f"{seed}/{name}")
    return Item(name, audio, "", language=ENGLISH, custom={"activity": plan.activity})


def verification(basic: Basic) -> Iterator[Task]:
    """Yield speaker verification, where dev and test have pairs of the same and of different speakers."""
    trials = {split: _trials(basic.english[split], most, basic.seed) for split, most in TRIALS.items()}
    if all(trials.values()):
        yield Task("asv", basic.english, columns={"trials": trials["dev"] | trials["test"]})


def _trials(items: list[Item], most: int, seed: int) -> dict[str, list]:
    """Return {first utterance: [[second utterance, 1 for the same speaker or 0], ...]}, as many of either kind."""
    pairs = sorted(itertools.combinations(items, 2), key=lambda p: hash64(f"{seed}/trial/{p[0].id} {p[1].id}"))
    same = [(a.id, b.id, 1) for a, b in pairs if a.speaker == b.speaker]
    other = [(a.id, b.id, 0) for a, b in pairs if a.speaker != b.speaker]
    count = min(most // 2, len(same), len(other))
    trials: dict[str, list] = {}
    for first, second, label in [*same[:count], *other[:count]]:
        trials.setdefault(first, []).append([second, label])
    return trials


def search(basic: Basic) -> Iterator[Task]:
    """Yield words and short phrases to find in sentences of other voices; dev and test have the same documents."""
    documents = [
        item for split, count in DOCUMENTS.items() for item in _mixed(basic.english[split], basic.seed)[:count]
    ]
    phrases = _phrases_to_search(documents, basic)
    border = round(len(phrases) * QUERIES["dev"] / sum(QUERIES.values()))
    present = {"dev": phrases[:border], "test": phrases[border:]}
    if not all(present.values()):
        return
    wanted = {split: (*present[split], *ABSENT_QUERIES[split]) for split in QUERIES}
    queries = {
        split: [_query(said, take, split, documents, basic) for said in wanted[split] for take in range(QUERY_VOICES)]
        for split in QUERIES
    }
    yield Task("qbe", {split: documents + queries[split] for split in QUERIES}, joined(queries))


def _mixed(items: list[Item], seed: int) -> list[Item]:
    return sorted(items, key=lambda item: hash64(f"{seed}/document/{item.id}"))


def _phrases_to_search(documents: list[Item], basic: Basic) -> list[str]:
    """Return the more frequent words and phrases of the documents, but for those that are part of a longer word."""
    texts = [item.text.lower() for item in documents]
    found: Counter[str] = Counter()
    for item, text in zip(documents, texts, strict=True):
        parts = [part for part in basic.meaning[item.text].parts if part[0] in SEARCHED]
        found.update({" ".join(text.split()[first:end]) for _, first, end in parts})
    alone = [p for p in found if len(p) >= LEAST_LETTERS and not any(p in text and not _has(text, p) for text in texts)]
    order = sorted(alone, key=lambda phrase: hash64(f"{basic.seed}/query/{phrase}"))
    often = sorted(order, key=lambda phrase: found[phrase] < OFTEN)[: sum(QUERIES.values())]
    return [phrase for phrase in order if phrase in often]


def _has(text: str, phrase: str) -> bool:
    return f" {phrase} " in f" {text} "


def _query(phrase: str, take: int, split: str, documents: list[Item], basic: Basic) -> Item:
    """Return a phrase said by a known speaker, none of whose sentences is a document."""
    name, voices = f"query-{split}-{phrase.replace(' ', '-')}-{take}", basic.of("train")
    voice = voices[(hash64(f"{basic.seed}/query/{split}/{phrase}") + take) % len(voices)]
    item = utterance(name, voice, phrase + ".", "", basic.seed, style=CLEARLY)
    item.text = phrase.upper()
    item.custom["relevant"] = [document.id for document in documents if _has(document.text, item.text)]
    return item
