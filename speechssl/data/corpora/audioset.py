"""AudioSet: ten-second clips of YouTube videos, each with some of 527 sounds; source= is a folder with the audio.

J. F. Gemmeke et al., "Audio Set: An ontology and human-labeled dataset for audio events", ICASSP 2017,
https://research.google.com/audioset. Its lists (balanced and unbalanced train, eval) can be downloaded and are
where they are missing; **its audio cannot**: videos vanish, every copy is incomplete in its own way, and results
compare only between copies of like coverage. What was found of each list is logged and kept in `corpus.json`.

Columns: `labels` (display names) and `source_id` (YouTube id, also the id). A clip of eval is never trained on, and a
clip of both train lists is used once. The plain manifest (train and a small dev) is all train audio, for
pretraining. Views, both tested on eval and selected on a share of train, chosen by hash of the id (published runs
have no dev set: they train on all of train and report the last or best epoch):

- `balanced`: the balanced list ("AudioSet-20K"), 1 in 20 of it for dev.
- `full`: both train lists ("AudioSet-2M"), 1 in 200 of them for dev.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from speechssl.data.coverage import coverage
from speechssl.data.csv_rows import csv_rows
from speechssl.data.download import cache_folder, fetch, local_copy
from speechssl.data.items import Item, Preparation, View
from speechssl.data.segment_lists import Segments, other_labels, read_segments
from speechssl.data.splits import hash64
from speechssl.data.youtube_clips import UNREADABLE, ClipFiles, find_clips
from speechssl.errors import UserError

URL = "https://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv"
LISTS = {
    "eval": "eval_segments.csv",
    "balanced": "balanced_train_segments.csv",
    "unbalanced": "unbalanced_train_segments.csv",
}
CLASSES = "class_labels_indices.csv"
NUM_CLASSES = 527
DEV_SHARE = {"balanced": 0.05, "full": 0.005}
LICENCE = (
    "The lists are CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), AudioSet, J. F. Gemmeke et al., ICASSP "
    "2017, https://research.google.com/audioset; the rights in the audio are with its uploaders on YouTube. Changed: "
    "resampled to 16 kHz, mono."
)

logger = logging.getLogger(__name__)


def plan(
    source: str | Path | None = None, *, unbalanced: bool = True, labels_file: str | Path | None = None
) -> Preparation:
    """List the clips that are there, with their labels and views.

    Args:
        source: the folder with the audio: wav flac ogg opus mp3 in any sub-folders, named ID, YID, ID_start or
            ID_start_end (seconds or milliseconds), and the published CSV files if they are at hand (downloaded
            otherwise); None = $SPEECHSSL_DATA/audioset.
        unbalanced: False leaves the unbalanced train list out (the whole list is some 650 GB as 16 kHz PCM).
        labels_file: other labels for train clips: a CSV like the published lists, or JSON
            {"data": [{"wav": path, "labels": "/m/09x0r,/m/05zppz"}]}. Eval keeps its own.
    """
    root = _root(source)
    names = _classes(_table(root, CLASSES))
    lists = {
        name: read_segments(_table(root, file)) for name, file in LISTS.items() if unbalanced or name != "unbalanced"
    }
    starts = {clip: start for segments in reversed(lists.values()) for clip, start in segments.starts.items()}
    files = find_clips(root, starts)
    if not files.paths:
        raise UserError(
            f"no clip of AudioSet below {root} ({files.others} other audio files; linked folders are not entered); its "
            "audio cannot be downloaded here, give a copy with names such as Y--PJHxphWEs.wav or --PJHxphWEs_30.flac"
        )
    others = other_labels(labels_file, starts) if labels_file else {}
    members = {name: [clip for clip in own if clip in files.paths] for name, own in _used(lists).items()}
    items = list(_items(lists, members, files.paths, names, others))
    return Preparation("audioset", items, LICENCE, _views(members), coverage=_coverage(lists, members, files))


def _root(source: str | Path | None) -> Path:
    root = local_copy("audioset") if source is None else Path(source)
    if root is None or not root.is_dir():
        raise UserError(f"source={root} is no folder; the audio of AudioSet cannot be downloaded, give a copy of it")
    return root


def _table(root: Path, name: str) -> Path:
    """Return one of the published tables: in the source, a folder of it, or downloaded."""
    for path in (root / name, *sorted(root.glob(f"*/{name}"))):
        if path.is_file():
            return path
    path = cache_folder() / "audioset" / name
    if not path.is_file():
        fetch(f"{URL}/{name}", path)
    return path


def _classes(path: Path) -> dict[str, str]:
    """Return the display name of each class by its machine id."""
    names = {row["mid"]: row["display_name"] for row in csv_rows(path, ("index", "mid", "display_name"))}
    if len(names) != NUM_CLASSES:
        logger.warning("%s names %d classes, AudioSet has %d; results will not compare", path, len(names), NUM_CLASSES)
    return names


def _used(lists: Mapping[str, Segments]) -> dict[str, list[str]]:
    """Return the clips that each list is used for: none of eval for training, none twice."""
    taken: set[str] = set()
    used = {}
    for name, segments in lists.items():  # eval first, then the list whose labels are the better checked
        used[name] = [clip for clip in segments.starts if clip not in taken]
        taken.update(used[name])
    return used


def _items(
    lists: Mapping[str, Segments],
    members: Mapping[str, list[str]],
    paths: Mapping[str, str],
    names: Mapping[str, str],
    others: Mapping[str, list[str]],
) -> Iterator[Item]:
    shown: dict[str, list[str]] = {}  # again one list object per set of labels
    for name, clips in members.items():
        for clip in clips:
            labels = lists[name].labels[clip] if name == "eval" else others.get(clip, lists[name].labels[clip])
            key = ",".join(labels)
            if key not in shown:
                shown[key] = _display_names(labels, names, clip)
            split = "" if name == "eval" else "dev" if _place(clip) < DEV_SHARE["full"] else "train"
            yield Item(clip, paths[clip], split, custom={"labels": shown[key], "source_id": clip})


def _display_names(labels: list[str], names: Mapping[str, str], clip: str) -> list[str]:
    for label in labels:
        if label not in names:
            raise UserError(
                f"clip {clip} has the label {label!r}, which {CLASSES} does not name; use the published files"
            )
    return [names[label] for label in labels]


def _place(clip: str) -> float:
    """Return a place in [0, 1): the first of them are dev, so a small dev set is part of a larger one."""
    return hash64(f"split/{clip}") / 2**64


def _views(members: Mapping[str, list[str]]) -> list[View]:
    train = {"balanced": members["balanced"]}
    if members.get("unbalanced"):
        train["full"] = members["balanced"] + members["unbalanced"]
    views = []
    for name, clips in train.items():
        dev = {clip for clip in clips if _place(clip) < DEV_SHARE[name]} or set(sorted(clips, key=_place)[:1])
        rest = [clip for clip in clips if clip not in dev]
        splits = {"train": rest, "dev": [clip for clip in clips if clip in dev], "test": members["eval"]}
        views.append(View(name, name, "", splits))
    return [view for view in views if all(view.splits.values())]


def _coverage(lists: Mapping[str, Segments], used: Mapping[str, list[str]], files: ClipFiles) -> dict[str, Any]:
    found = {name: sum(clip in files.paths for clip in segments.starts) for name, segments in lists.items()}
    notes = [f"{files.duplicates} files of clips that are there already"] if files.duplicates else []
    aac = sum(path.lower().endswith(UNREADABLE) for path in files.paths.values())
    notes += [f"{aac} clips in m4a, which cannot be read: convert them, e.g. with ffmpeg"] if aac else []
    counts = {name: (found[name], segments.published) for name, segments in lists.items()}
    report: dict[str, Any] = coverage("audioset", counts, ", ".join(notes))
    for name, segments in lists.items():
        report[name] |= {
            "missing": segments.published - found[name],
            "listed_twice": segments.repeated,
            "in_lists_before": found[name] - len(used[name]),  # eval, balanced, unbalanced
            "used": len(used[name]),
        }
    return report | {"files": {"duplicates": files.duplicates, "others": files.others, "m4a": aac}}
