"""ESC-10: 400 five-second clips of ten everyday sounds in five folds; downloaded where no source= is given.

K. J. Piczak, "ESC: Dataset for Environmental Sound Classification", ACM MM 2015, in the OGG edition of 2015,
https://github.com/karolpiczak/ESC-10: folders `NNN - Class`, files `{fold}-{Freesound id}-{take}.ogg`, 44.1 kHz.
380 clips last 5.001 s, the others 3.6 to 7.2 s; all are kept as they are.
ESC-50 has the same ten classes as WAV in an edition of its own with other cuts (`corpus=esc50` has that as a
view), so accuracies on the two do not compare.

The plain manifest is one split, train, with all clips: it is for pretraining without labels. The folds are
views: `folds/fold1` .. `fold5` test on that fold, select on the next one and train on the other three. All
clips of one Freesound recording are in one fold.
"""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

from speechssl.data.archive import fetch_files
from speechssl.data.coverage import coverage
from speechssl.data.download import cache_folder, local_copy
from speechssl.data.folds import fold_views, refuse_leaks
from speechssl.data.items import Item, Preparation
from speechssl.errors import UserError

COMMIT = "9c866b987dd6d351badb95af9465f9310c68339b"  # the last with the clips' authors in its README
URL = f"https://github.com/karolpiczak/ESC-10/archive/{COMMIT}.zip"
CONTENT_SHA256 = "1626f56dade6b16ccb476d4fbf6de8f315e1f80ce27801b545a6606cf2a2b511"  # of all clips, with their folders
LICENCE = (
    "CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/). ESC-10, K. J. Piczak, ESC: Dataset for Environmental "
    "Sound Classification, ACM MM 2015, https://doi.org/10.1145/2733373.2806390. Clips from Freesound.org, most of "
    "them CC0 or CC BY 3.0 and two CC Sampling+ 1.0 (1-40730-A, 2-96460-A); their authors are named in "
    f"https://github.com/karolpiczak/ESC-10/blob/{COMMIT}/README.md. Changed: resampled to 16 kHz, mono."
)
NUM_CLIPS = 400  # 10 classes x 5 folds x 8
PER_CELL = 8  # clips of one class in one fold
SAMPLING_PLUS = ("1-40730-A", "2-96460-A")
FOLDER_NAME = re.compile(r"\d{3} - (.+)")
FILE_NAME = re.compile(r"([1-5])-(\d+)-([A-Z])\.ogg")


def plan(source: str | Path | None = None, *, exclude_sampling_plus: bool = False) -> Preparation:
    """List the clips with class and fold, and the five views.

    Args:
        source: the repository's folder; None = $SPEECHSSL_DATA/esc10 where that exists, else a download into the
            user's cache folder.
        exclude_sampling_plus: leave out the two clips whose licence (CC Sampling+) is narrower than the others'.
    """
    items = _scan(_find(source))
    refuse_leaks(items, "esc10")
    if exclude_sampling_plus:
        items = [item for item in items if item.id not in SAMPLING_PLUS]
    cells = Counter((item.custom["label"], item.custom["fold"]) for item in items)
    uneven = sum(count != PER_CELL for count in cells.values())
    detail = f"{uneven} of its (class, fold) cells without exactly {PER_CELL} clips" if uneven else ""
    counts = {"clips": (len(items), NUM_CLIPS), "classes": (len({label for label, _ in cells}), 10)}
    found = coverage("esc10", counts, detail)
    return Preparation("esc10", items, LICENCE, fold_views(items, "folds", "folds"), coverage=found)


def _find(source: str | Path | None) -> Path:
    """Return the folder with one folder per class."""
    if source is None:
        source = local_copy("esc10")
    if source is None:
        return fetch_files(URL, cache_folder() / f"esc10-{COMMIT[:8]}", _is_clip, CONTENT_SHA256, parents=1)
    if not Path(source).is_dir():
        raise UserError(f"source={source} is not a folder; expected a copy of ESC-10 (github.com/karolpiczak/ESC-10)")
    return Path(source)


def _is_clip(name: PurePosixPath) -> bool:
    return FOLDER_NAME.fullmatch(name.parent.name) is not None and FILE_NAME.fullmatch(name.name) is not None


def _scan(folder: Path) -> list[Item]:
    """Return all clips, sorted by folder and file name."""
    items = []
    for path in sorted(folder.glob("*/*.ogg")):
        label, name = FOLDER_NAME.fullmatch(path.parent.name), FILE_NAME.fullmatch(path.name)
        if label and name:
            custom = {"label": label[1], "fold": int(name[1]), "source_id": name[2]}
            items.append(Item(path.stem, str(path), "train", custom=custom))
    if not items:
        raise UserError(f"no clips of ESC-10 in {folder}; expected files such as '001 - Dog bark/1-100032-A.ogg'")
    return items
