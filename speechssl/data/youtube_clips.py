"""Finds the audio of YouTube clips below a folder, whatever tool downloaded them.

YouTube ids are 11 letters, digits, "-" and "_". Tools name files `ID`, `YID`, `ID_start` or `ID_start_end`, with
seconds or milliseconds, in one folder or many; ids may begin with "-" and differ by case alone.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speechssl.data.manifest import CORPUS_FILE

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a")  # the best first, where a clip is there twice
UNREADABLE = ".m4a"  # AAC, which libsndfile does not read
NAME = re.compile(r"([\w-]{11})(?:_(\d+(?:\.\d+)?))?(?:_\d+(?:\.\d+)?)?", re.ASCII)
TOLERANCE = 1.0  # seconds: some tools cut the start's fraction off


@dataclass
class ClipFiles:
    """What was found below a folder.

    Attributes:
        paths: file of each clip by YouTube id.
        duplicates: files left out because another one holds the same clip.
        others: audio files that are no wanted clip, or another excerpt of the video.
    """

    paths: dict[str, str] = field(default_factory=dict)
    duplicates: int = 0
    others: int = 0


def clip_id(stem: str, starts: Mapping[str, float]) -> str | None:
    """Return which of the wanted clips ({id: start in seconds}) a file of this name holds, None if no one."""
    for name in (stem, stem[1:] if stem.startswith("Y") else ""):
        match = NAME.fullmatch(name)
        if match and match[1] in starts and _is_start(match[2], starts[match[1]]):
            return match[1]
    return None


def _is_start(text: str | None, seconds: float) -> bool:
    if text is None:
        return True
    return min(abs(float(text) - seconds), abs(float(text) / 1000 - seconds)) < TOLERANCE


def find_clips(root: Path, starts: Mapping[str, float]) -> ClipFiles:
    """Return the files of the wanted clips, {id: start in seconds}, below a folder; linked folders are not entered."""
    found = ClipFiles()
    for folder, name in _walk(root):
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in SUFFIXES:
            continue
        clip = clip_id(stem, starts)
        if clip is None:
            found.others += 1
            continue
        path = os.path.join(folder, name)
        if clip in found.paths:
            found.duplicates += 1
            path = min(path, found.paths[clip], key=_preference)
        found.paths[clip] = path
    return found


def _preference(path: str) -> tuple[int, str]:
    return SUFFIXES.index(os.path.splitext(path)[1].lower()), path


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (folder, name) of all files that are not hidden, in sorted order; prepared corpora are passed over."""
    for folder, subfolders, files in os.walk(root):
        if CORPUS_FILE in files or ".parts" in subfolders:
            subfolders.clear()
            continue
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield folder, name
