"""What the synthetic corpus says: keywords, and sentences that small grammars make.

All texts are our own. English sentences are made of a-z, apostrophe and space, as character models of
English speech expect; the other languages keep their letters.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from speechssl.data.splits import hash64
from speechssl.errors import UserError, nearest

KEYWORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "open", "close")

Grammar = tuple[tuple[str, ...], dict[str, tuple[str, ...]]]  # templates with {slots}, and what fits each slot

# Which places of the English grammar, or words that fill them, are slots and named entities, and what these are called.
# No slot is in most sentences: answering the same for all of them should not pay.
SLOTS = {
    "place": "place",
    "number": "number",
    "when": "when",
    "who": "who",
    **dict.fromkeys(("red", "blue", "green", "white", "yellow"), "colour"),
    **dict.fromkeys(("small", "heavy"), "size"),
}
ENTITIES = {"who": "PERSON", "place": "PLACE", "when": "DATE", "number": "CARDINAL"}

_ENGLISH: Grammar = (
    (
        "{put} the {kind} {thing} {place}",
        "{who} {did} {number} {kind} {things}",
        "don't {do} the {thing} {when}",
        "let's {go} {when}",
        "it's {weather} {place}",
        "the {thing} is {kind} and {state}",
        "who {did} the {kind} {thing}",
        "i want a {kind} {thing} {when}",
    ),
    {
        "put": ("put", "leave", "find", "hide", "keep", "drop"),
        "kind": ("red", "blue", "green", "white", "small", "heavy", "wooden", "yellow"),
        "thing": ("box", "chair", "bottle", "letter", "basket", "ladder", "lamp", "blanket"),
        "things": ("boxes", "chairs", "bottles", "letters", "baskets", "horses", "birds", "apples"),
        "place": (
            "under the table",
            "near the window",
            "behind the door",
            "beside the river",
            "on the shelf",
            "in the garden",
            "by the fire",
            "at the station",
        ),
        "who": (
            "my brother",
            "your sister",
            "the teacher",
            "the farmer",
            "her father",
            "the captain",
            "a child",
        ),
        "did": ("bought", "found", "sold", "carried", "painted", "lost"),
        "number": ("two", "three", "five", "seven", "nine", "twenty"),
        "do": ("move", "break", "touch", "clean", "forget", "throw"),
        "when": (
            "today",
            "tonight",
            "on sunday",
            "this morning",
            "after lunch",
            "before winter",
            "every friday",
        ),
        "go": (
            "walk home",
            "wait here",
            "sing together",
            "catch a train",
            "visit the farm",
            "swim in the lake",
        ),
        "weather": ("cold", "warm", "dark", "quiet", "windy", "cool"),
        "state": ("broken", "clean", "empty", "full", "dry", "old"),
    },
)

_GERMAN: Grammar = (
    ("{subject} {verb} {when} {object} {place}", "{when} {verb} {subject} {object}"),
    {
        "subject": (
            "der mann",
            "die lehrerin",
            "mein bruder",
            "unsere nachbarin",
            "das kind",
            "ein alter fischer",
        ),
        "verb": ("kauft", "sucht", "findet", "verliert", "bringt", "zeichnet"),
        "object": (
            "einen roten apfel",
            "das kleine boot",
            "die schwere kiste",
            "ein neues fenster",
            "den langen brief",
            "eine warme decke",
        ),
        "place": (
            "am fluss",
            "vor der schule",
            "in der stadt",
            "hinter dem haus",
            "auf dem markt",
            "unter der brücke",
        ),
        "when": ("heute", "am sonntag", "jeden morgen", "nach der arbeit"),
    },
)

_SPANISH: Grammar = (
    ("{when} {subject} {verb} {object} {place}", "{subject} {verb} {object} {when}"),
    {
        "subject": (
            "el hombre",
            "la maestra",
            "mi hermano",
            "nuestra vecina",
            "el niño",
            "un viejo pescador",
        ),
        "verb": ("compra", "busca", "encuentra", "pierde", "lleva", "dibuja"),
        "object": (
            "una manzana roja",
            "el barco pequeño",
            "la caja pesada",
            "una ventana nueva",
            "la carta larga",
            "una manta caliente",
        ),
        "place": (
            "junto al río",
            "delante de la escuela",
            "en la ciudad",
            "detrás de la casa",
            "en el mercado",
            "debajo del puente",
        ),
        "when": ("hoy", "el domingo", "cada mañana", "después del trabajo"),
    },
)

_FRENCH: Grammar = (
    ("{when} {subject} {verb} {object} {place}", "{subject} {verb} {object} {when}"),
    {
        "subject": ("l'homme", "la maîtresse", "mon frère", "notre voisine", "l'enfant", "un vieux pêcheur"),
        "verb": ("achète", "cherche", "trouve", "perd", "apporte", "dessine"),
        "object": (
            "une pomme rouge",
            "le petit bateau",
            "la lourde caisse",
            "une nouvelle fenêtre",
            "la longue lettre",
            "une couverture chaude",
        ),
        "place": (
            "au bord du fleuve",
            "devant l'école",
            "dans la ville",
            "derrière la maison",
            "au marché",
            "sous le pont",
        ),
        "when": ("aujourd'hui", "dimanche", "chaque matin", "après le travail"),
    },
)

_ITALIAN: Grammar = (
    ("{when} {subject} {verb} {object} {place}", "{subject} {verb} {object} {when}"),
    {
        "subject": (
            "l'uomo",
            "la maestra",
            "mio fratello",
            "la nostra vicina",
            "il bambino",
            "un vecchio pescatore",
        ),
        "verb": ("compra", "cerca", "trova", "perde", "porta", "disegna"),
        "object": (
            "una mela rossa",
            "la piccola barca",
            "la cassa pesante",
            "una finestra nuova",
            "la lettera lunga",
            "una coperta calda",
        ),
        "place": (
            "vicino al fiume",
            "davanti alla scuola",
            "in città",
            "dietro la casa",
            "al mercato",
            "sotto il ponte",
        ),
        "when": ("oggi", "domenica", "ogni mattina", "dopo il lavoro"),
    },
)

GRAMMARS: dict[str, Grammar] = {
    "en": _ENGLISH,
    "de": _GERMAN,
    "es": _SPANISH,
    "fr": _FRENCH,
    "it": _ITALIAN,
}


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case, and which of its words filled which place of the grammar.

    Attributes:
        text: words with single blanks between them.
        parts: (name of the place, first word, word after the last), from left to right.
    """

    text: str
    parts: tuple[tuple[str, int, int], ...] = ()

    def spans(self, names: Mapping[str, str]) -> list[list]:
        """Return [name, first, end) of the parts that `names` names, by place or by words, for a label column."""
        words = self.text.split()
        found = [(names.get(" ".join(words[a:b]), names.get(part)), a, b) for part, a, b in self.parts]
        return [list(span) for span in found if span[0] is not None]


def sentences(language: str, count: int, seed: int) -> list[str]:
    """Return `count` different sentences in lower case; a longer list starts like a shorter one.

    Raises:
        UserError: there is no grammar for the language, or it makes fewer sentences.
    """
    return [sentence.text for sentence in parsed_sentences(language, count, seed)]


def parsed_sentences(language: str, count: int, seed: int) -> list[Sentence]:
    """Return what `sentences` does, with the places of the grammar that the words filled."""
    if language not in GRAMMARS:
        known = ", ".join(GRAMMARS)
        raise UserError(f"no sentences in language {language!r}; known: {known}{nearest(language, GRAMMARS)}")
    templates, slots = GRAMMARS[language]
    choices = [[slots[name] for name in re.findall(r"{(\w+)}", template)] for template in templates]
    possible = sum(math.prod(map(len, words)) for words in choices)
    if count > possible:
        raise UserError(f"the grammar of {language!r} makes {possible} sentences, {count} were asked for")
    streams = [_shuffled(t, words, f"{seed}/{language}") for t, words in zip(templates, choices, strict=True)]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*streams))
    return list(itertools.islice((sentence for sentence in turns if sentence is not None), count))


def _shuffled(template: str, words: list[tuple[str, ...]], key: str) -> Iterator[Sentence]:
    """Yield all sentences of one template."""
    total = math.prod(map(len, words))
    for number in sorted(range(total), key=lambda n: hash64(f"sentence/{key}/{template}/{n}")):
        chosen = []
        for options in words:
            number, digit = divmod(number, len(options))
            chosen.append(options[digit])
        yield _filled(template, chosen)


def _filled(template: str, chosen: list[str]) -> Sentence:
    words: list[str] = []
    parts = []
    fillings = iter(chosen)
    for token in template.split():
        first = len(words)
        words += next(fillings).split() if token.startswith("{") else [token]
        if token.startswith("{"):
            parts.append((token.strip("{}"), first, len(words)))
    return Sentence(" ".join(words), tuple(parts))
