"""Trials of speaker verification that are drawn, and the column they become."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from speechssl.data.splits import hash64
from speechssl.metrics.trial_list import Trial

DRAWS = 20  # per trial at most: pairs that were drawn before do not count


def draw_trials(
    speakers: Mapping[str, Sequence[str]], count: int, key: str, session: Callable[[str], str]
) -> list[Trial]:
    """Draw trials, half of them of one speaker; no pair twice, in whichever order.

    The two utterances of one speaker come from different sessions: those of one recording share a channel, by which
    they would be told to be the same. Fewer than `count` come back where there are not so many pairs.

    Args:
        speakers: utterances of each.
        count: trials.
        key: all that the draw depends on.
        session: of an utterance.
    """
    rng = np.random.default_rng(hash64(f"trials/{key}"))
    names = sorted(speakers)
    everyone = [list(speakers[name]) for name in names]
    sessions = [_by_session(speakers[name], session) for name in names]
    several = [found for found in sessions if len(found) > 1]
    same = _pairs(rng, count // 2, several)
    other = _pairs(rng, count - count // 2, [everyone] if len(everyone) > 1 else [])
    return [Trial(*pair, 1) for pair in same] + [Trial(*pair, 0) for pair in other]


def _by_session(utterances: Iterable[str], session: Callable[[str], str]) -> list[list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for utterance in utterances:
        found[session(utterance)].append(utterance)
    return list(found.values())


def _pairs(rng: np.random.Generator, count: int, pools: list[list[list[str]]]) -> list[tuple[str, str]]:
    """Draw pairs from two different groups of utterances of one pool; no pair twice."""
    count = min(count, sum(_num_pairs(pool) for pool in pools))
    found: dict[frozenset[str], tuple[str, str]] = {}
    for _ in range(DRAWS * count):
        if len(found) == count:
            break
        pool = pools[rng.integers(len(pools))]
        groups = rng.choice(len(pool), 2, replace=False)
        first, second = (pool[group][rng.integers(len(pool[group]))] for group in groups)
        found.setdefault(frozenset((first, second)), (first, second))
    return list(found.values())


def _num_pairs(pool: list[list[str]]) -> int:
    sizes = [len(group) for group in pool]
    return (sum(sizes) ** 2 - sum(size**2 for size in sizes)) // 2


def trials_by_first(trials: Iterable[Trial]) -> dict[str, list[list]]:
    """Return the column `trials`: for the first utterance of each, [second, same] of all its trials."""
    column: dict[str, list[list]] = defaultdict(list)
    for trial in trials:
        column[trial.first].append([trial.second, trial.same])
    return dict(column)
