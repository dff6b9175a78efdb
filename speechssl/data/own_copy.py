"""The user's own copy of a corpus that cannot be downloaded here: found in a few usual places, or asked for."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from speechssl.data.download import local_copy
from speechssl.errors import UserError


def own_copy(corpus: str, source: str | Path | None, markers: Sequence[str], names: Sequence[str], how: str) -> Path:
    """Return the folder that holds one of `markers`: the source, or one of `names` in it.

    Args:
        corpus: its name; without a source, $SPEECHSSL_DATA/`corpus` is looked into.
        source: as the user gave it, or None.
        markers: glob patterns of files or folders, one of which every copy has; the earlier, the better.
        names: folders that the published archive unpacks to.
        how: where a copy comes from; ends the error's line.

    Raises:
        UserError: no copy there.
    """
    folder = local_copy(corpus) if source is None else Path(source)
    if folder is None:
        raise UserError(f"{corpus} cannot be downloaded here; give source= a copy of it: {how}")
    if not folder.is_dir():
        raise UserError(f"source={folder} is no folder; expected a copy of {corpus}: {how}")
    places = (folder, *(folder / name for name in names))
    for marker, place in product(markers, places):
        if any(place.glob(marker)):
            return place
    raise UserError(f"source={folder} has no {' and no '.join(markers)}; expected a copy of {corpus}: {how}")
