"""Views of a corpus that was published in folds: test on one, select on the next, train on the others.

Published protocols train on all folds but one and have no dev set. Ours takes the fold after the test fold
(cyclically) for dev, so that nothing is selected on test; a task may train anew on train and dev together once
it has selected.
"""

from collections import defaultdict
from collections.abc import Iterable

from speechssl.data.items import Item, View
from speechssl.errors import UserError


def fold_views(items: Iterable[Item], folder: str, name: str) -> list[View]:
    """Return one view per fold (1, 2, ... in the custom column `fold`) that there is a train, dev and test set for.

    Args:
        items: of the corpus, or of a part of it.
        folder: of the views; "folds" gives "folds/fold1", "folds/fold2", ...
        name: of the views.
    """
    members: dict[int, list[str]] = defaultdict(list)
    for item in items:
        members[item.custom["fold"]].append(item.id)
    folds = sorted(members)
    if len(folds) < 3:
        return []
    views = []
    for number, fold in enumerate(folds):
        dev = folds[(number + 1) % len(folds)]
        train = [identifier for other in folds if other not in (fold, dev) for identifier in members[other]]
        splits = {"train": train, "dev": members[dev], "test": members[fold]}
        views.append(View(f"{folder}/fold{fold}", name, f"fold{fold}", splits))
    return views


def refuse_leaks(items: Iterable[Item], corpus: str) -> None:
    """Raise UserError where excerpts of one recording (custom column `source_id`) lie in several folds."""
    folds: dict[str, set[int]] = defaultdict(set)
    for item in items:
        folds[item.custom["source_id"]].add(item.custom["fold"])
    for source, found in sorted(folds.items()):
        if len(found) > 1:
            raise UserError(
                f"{corpus}: recording {source} is in folds {', '.join(map(str, sorted(found)))}; as published each "
                "is in one, so these files were renamed or sorted anew: use the published ones"
            )
