"""Which split an utterance belongs to where the corpus does not say.

By a hash of its id or group, so that adding files never moves the others.
"""

import hashlib
from collections.abc import Mapping

from speechssl.data.items import Item

ENOUGH_FOR_DEV = 10  # items; with fewer, a split may stay empty


def hash64(text: str) -> int:
    """Return 64 bits that depend on nothing but the text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def assign_splits(items: list[Item], shares: Mapping[str, float]) -> dict[str, str]:
    """Return the split of each item by id.

    Items that name a split keep it. The others go by hash of their group to the splits of `shares`, or else
    to "train". Where at least ten of them are to be divided, every split with a share gets one group, however
    small the share.
    """
    splits = {item.id: item.split for item in items if item.split is not None}
    free = [item for item in items if item.split is None]
    places = {group: hash64(f"split/{group}") / 2**64 for group in {_group(item) for item in free}}
    chosen = {group: _place(place, shares) for group, place in places.items()}
    if len(free) >= ENOUGH_FOR_DEV:
        _fill_empty(chosen, places, shares)
    return splits | {item.id: chosen[_group(item)] for item in free}


def _group(item: Item) -> str:
    return item.id if item.group is None else item.group


def _place(place: float, shares: Mapping[str, float]) -> str:
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    return "train"


def _fill_empty(chosen: dict[str, str], places: Mapping[str, float], shares: Mapping[str, float]) -> None:
    for split, share in shares.items():
        candidates = [group for group, taken in chosen.items() if taken == "train"]
        if share > 0 and split not in chosen.values() and len(candidates) > 1:
            chosen[min(candidates, key=places.__getitem__)] = split
