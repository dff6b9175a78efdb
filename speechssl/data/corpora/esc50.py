"""ESC-50: 2,000 five-second clips of fifty everyday sounds in five folds; downloaded where no source= is given.

K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015,
https://github.com/karolpiczak/ESC-50: `audio/{fold}-{Freesound id}-{take}-{class}.wav`, 44.1 kHz, and
`meta/esc50.csv`. Non-commercial use only (CC BY-NC 3.0), but for its ESC-10 subset, which is CC BY.

The plain manifest is one split, train, with all clips: it is for pretraining without labels. Views:

- `folds/fold1` .. `fold5`: test on that fold, select on the next one, train on the other three.
- `esc10/folds/fold1` .. `fold5`: the same with the ten classes of ESC-10, in this edition's cuts (`corpus=esc10` is
  the edition of 2015; the two do not compare).
"""

from collections import Counter
from pathlib import Path, PurePosixPath

from speechssl.data.archive import fetch_files
from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.folds import fold_views, refuse_leaks
from speechssl.data.items import Item, Preparation
from speechssl.errors import UserError

COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
URL = f"https://github.com/karolpiczak/ESC-50/archive/{COMMIT}.zip"
META = Path("meta", "esc50.csv")
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")
LICENCE = (
    "CC BY-NC 3.0 (https://creativecommons.org/licenses/by-nc/3.0/), its ESC-10 subset CC BY. ESC-50, K. J. Piczak, "
    "ESC: Dataset for Environmental Sound Classification, ACM MM 2015, https://doi.org/10.1145/2733373.2806390. Clips "
    "from Freesound.org; their authors are named in https://github.com/karolpiczak/ESC-50/blob/master/LICENSE. "
    "Changed: resampled to 16 kHz. Not for commercial use."
)
NUM_CLIPS, NUM_CLASSES = 2000, 50
PER_CELL = 8  # clips of one class in one fold


def plan(source: str | Path | None = None) -> Preparation:
    """List the clips with class and fold, and the views.

    Args:
        source: the repository's folder; None = $SPEECHSSL_DATA/esc50 where that exists, else a download of 0.6 GB
            into the user's cache folder.
    """
    items, ten, missing = _scan(_find(source))
    refuse_leaks(items, "esc50")
    cells = Counter((item.custom["label"], item.custom["fold"]) for item in items)
    uneven = sum(count != PER_CELL for count in cells.values())
    notes = [f"{missing} of the table's files missing"] if missing else []
    notes += [f"{uneven} of its (class, fold) cells without exactly {PER_CELL} clips"] if uneven else []
    counts = {"clips": (len(items), NUM_CLIPS), "classes": (len({label for label, _ in cells}), NUM_CLASSES)}
    found = coverage("esc50", counts, ", ".join(notes))
    views = fold_views(items, "folds", "folds") + fold_views(ten, "esc10/folds", "esc10")
    return Preparation("esc50", items, LICENCE, views, coverage=found)


def _find(source: str | Path | None) -> Path:
    """Return the folder with `audio` and `meta`."""
    if source is None:
        source = local_copy("esc50")
    if source is None:
        return fetch_files(URL, cache_folder() / f"esc50-{COMMIT[:8]}", _is_wanted, sha256=None, parents=1)
    source = Path(source)
    for folder in (source, source / "ESC-50-master", source / "ESC-50"):
        if (folder / META).is_file():
            return folder
    raise UserError(
        f"no {META.as_posix()} in source={source}; expected a copy of ESC-50 (github.com/karolpiczak/ESC-50)"
    )


def _is_wanted(name: PurePosixPath) -> bool:
    return name.match("audio/*.wav") or name.match(META.as_posix())


def _scan(folder: Path) -> tuple[list[Item], list[Item], int]:
    """Return all clips in the table's order, those of ESC-10, and how many files of the table are missing."""
    items, ten, missing = [], [], 0
    for row in csv_rows(folder / META, COLUMNS):
        path = folder / "audio" / row["filename"]
        if not path.is_file():
            missing += 1
            continue
        if not row["fold"].isdigit():
            raise UserError(f"{folder / META}: the fold of {row['filename']} is {row['fold']!r}; expected 1 to 5")
        custom = {"label": row["category"], "fold": int(row["fold"]), "source_id": row["src_file"]}
        items.append(Item(path.stem, str(path), "train", custom=custom))
        if row["esc10"] == "True":
            ten.append(items[-1])
    if not items:
        raise UserError(f"none of the {missing} files of {META.as_posix()} is in {folder / 'audio'}; unpack it whole")
    return items, ten, missing
