"""What an utterance is, whichever manifest names it."""

import hashlib
import os

from speechssl.data.cuts import Corpus, CutTable
from speechssl.errors import UserError


def utterance_keys(corpus: Corpus, table: CutTable) -> list[str]:
    """Return an identity of each utterance's audio that all manifests over the same corpus share.

    `prepare` stores the loudness of every utterance to all its digits. Manifests of other programs do not
    have it: there size and time of the audio file, or else the corpus fingerprint, stand in for it.
    """
    lengths = table.num_samples.tolist()
    parts = ((corpus.name, name, lengths[i], _content(corpus, table, i)) for i, name in enumerate(table.ids))
    return [hashlib.sha256(repr(part).encode()).hexdigest()[:24] for part in parts]


def _content(corpus: Corpus, table: CutTable, index: int) -> tuple:
    rms = table.rms(index)
    if rms is not None:
        return ("rms", rms)
    audio = table.audio_of(index)
    if audio is None or not os.path.isfile(audio[0]):
        return ("fingerprint", corpus.fingerprint)
    found = os.stat(audio[0])
    return ("file", audio[1], found.st_size, found.st_mtime_ns)


def readable(corpus: Corpus, table: CutTable, unreadable: dict[str, str], split: str) -> list[int]:
    """Return the indices of the utterances of a split that can be read.

    Args:
        unreadable: {key: reason} of those that cannot.
        split: name of the split, for the message.

    Raises:
        UserError: none of them.
    """
    keys = utterance_keys(corpus, table)
    kept = [i for i, key in enumerate(keys) if key not in unreadable]
    if not kept:
        raise UserError(
            f"none of the {len(table)} utterances in {split} of {corpus.name} is readable; the first: "
            f"{unreadable[keys[0]]}"
        )
    return kept
