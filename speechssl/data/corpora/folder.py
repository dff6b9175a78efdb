"""Any tree of audio files, no labels needed; `label_from=parent` takes folder names as labels.

Splits go by a hash of the relative path (or of the folder, `group_by=folder`: then one speaker's or book's
folder stays together), so adding files never moves the others: train and a small dev, with labels also a test
split.
"""

import os
from collections import Counter
from hashlib import blake2b
from pathlib import Path

from speechssl.data.items import Item, Preparation
from speechssl.data.manifest import CORPUS_FILE
from speechssl.errors import UserError

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
GROUPINGS = ("file", "folder")
UNLABELLED_SHARES = {"dev": 0.05}
LABELLED_SHARES = {"dev": 0.1, "test": 0.2}


def plan(
    source: str | Path,
    *,
    label_from: str | None = None,
    group_by: str = "file",
    dev_share: float | None = None,
    test_share: float | None = None,
    name: str | None = None,
    licence: str = "unknown",
) -> Preparation:
    """Any tree of audio files (wav flac ogg opus mp3); folder names become labels with label_from=parent.

    Args:
        source: the folder. Hidden files and folders and prepared corpora are passed over, linked folders not
            followed.
        label_from: "parent" sets the custom column `label` to the name of each file's folder.
        group_by: "file", or "folder" to keep the files of one folder in one split.
        dev_share, test_share: share of files; None = 0.05 and 0, with labels 0.1 and 0.2.
        name: identity of the corpus; None = the folder's name.
        licence: of the audio, to be remembered in corpus.json.
    """
    if label_from not in (None, "parent"):
        raise UserError(f"label_from={label_from} is unknown; expected parent (the folder's name), or nothing")
    if group_by not in GROUPINGS:
        raise UserError(f"group_by={group_by} is unknown; expected one of {', '.join(GROUPINGS)}")
    root = _root(source)
    paths = find_audio(root)
    if not paths:
        raise UserError(f"no audio ({' '.join(s[1:] for s in SUFFIXES)}) below source={root}")
    items = [
        Item(identifier, str(root / path), group=str(path.parent) if group_by == "folder" else None)
        for identifier, path in zip(unique_ids(paths), paths, strict=True)
    ]
    if label_from == "parent":
        _label(items, paths, root)
    shares = _shares(label_from is not None, dev_share, test_share)
    return Preparation(name or root.name, items, licence, shares=shares)


def _shares(labelled: bool, dev_share: float | None, test_share: float | None) -> dict[str, float]:
    shares = dict(LABELLED_SHARES if labelled else UNLABELLED_SHARES)
    shares |= {split: share for split, share in (("dev", dev_share), ("test", test_share)) if share is not None}
    if min(shares.values()) < 0 or sum(shares.values()) >= 1:
        raise UserError(f"dev_share and test_share must be 0 or more and leave something to train, found {shares}")
    return shares


def _root(source: str | Path | None) -> Path:
    if source is None or not Path(source).is_dir():
        raise UserError(f"source={source} is no folder; expected a folder with audio files")
    return Path(source).resolve()


def find_audio(root: Path) -> list[Path]:
    """Return the audio files below `root`, relative to it, sorted."""
    found = []
    for folder, subfolders, files in os.walk(root):
        if (
            CORPUS_FILE in files or ".parts" in subfolders
        ):  # a prepared corpus inside the source, such as our own output
            subfolders.clear()
            continue
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        audio = [name for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
        found += [Path(folder, name).relative_to(root) for name in audio]
    return sorted(found)


def unique_ids(paths: list[Path]) -> list[str]:
    """Return an id for each relative path: its parts joined by "-", without the suffix.

    Where that is not unique (`a.wav` beside `a.flac`, `a/b.wav` beside `a-b.wav`), a digest of the path is
    added.
    """
    plain = ["-".join(path.with_suffix("").parts).encode("utf-8", "backslashreplace").decode() for path in paths]
    uses = Counter(plain)
    return [name if uses[name] == 1 else f"{name}-{_digest(path)}" for name, path in zip(plain, paths, strict=True)]


def _digest(path: Path) -> str:
    return blake2b(os.fsencode(path), digest_size=4).hexdigest()


def _label(items: list[Item], paths: list[Path], root: Path) -> None:
    for item, path in zip(items, paths, strict=True):
        item.custom["label"] = path.parent.name or root.name
    if len({item.custom["label"] for item in items}) < 2:
        raise UserError(f"label_from=parent found one folder only in {root}; expected one folder of files per label")
