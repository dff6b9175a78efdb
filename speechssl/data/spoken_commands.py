"""Further texts of the synthetic corpus: commands with three slots, and sentences without feeling.

The commands follow Fluent Speech Commands (Lugosch et al., 2019, https://arxiv.org/abs/1904.03670): an action, an
object and a location, where not every combination exists and each can be worded in several ways. The texts are our own.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

WORDINGS = {
    "activate": ("turn on the {}", "i need the {}"),
    "deactivate": ("stop the {}", "no more {}"),
    "increase": ("raise the {}", "make the {} higher"),
}
OBJECTS = {"music": ("music",), "lights": ("lights",), "heat": ("heating", "heat"), "fan": ("fan",)}
LOCATIONS = {"none": ("",), "kitchen": ("in the kitchen",), "bedroom": ("upstairs", "in the bedroom")}
MISSING = {  # there is one place for music, and fans have one speed
    ("activate", "music", "bedroom"),
    ("deactivate", "music", "bedroom"),
    ("increase", "music", "bedroom"),
    ("increase", "music", "kitchen"),
    ("increase", "fan", "kitchen"),
    ("increase", "fan", "bedroom"),
    ("increase", "fan", "none"),
}
INTENTS = tuple(i for i in itertools.product(WORDINGS, OBJECTS, LOCATIONS) if i not in MISSING)

# What can be said happily, angrily or sadly: the words themselves tell nothing.
PLAIN_SENTENCES = (
    "the letter is on the table",
    "they are coming home on sunday",
    "i will wait at the station",
    "the door was open again",
    "we have two chairs and a lamp",
    "my brother works in the garden",
    "it is nearly seven o'clock",
    "she is talking to the teacher",
)


@dataclass(frozen=True)
class Command:
    """What is said, in lower case, and what it means."""

    text: str
    action: str
    object: str
    location: str

    @property
    def intent(self) -> dict[str, str]:
        """Return the slots and their values."""
        return {"action": self.action, "object": self.object, "location": self.location}


def commands(rng: np.random.Generator) -> Iterator[Command]:
    """Yield commands without end: all combinations in some order, again and again, each time worded anew."""
    order = rng.permutation(len(INTENTS))
    for number in itertools.cycle(order.tolist()):
        action, thing, location = INTENTS[number]
        what, how, where = (
            str(rng.choice(choices)) for choices in (OBJECTS[thing], WORDINGS[action], LOCATIONS[location])
        )
        yield Command(f"{how.format(what)} {where}".strip(), action, thing, location)
