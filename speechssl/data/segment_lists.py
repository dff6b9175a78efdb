"""Lists of labelled YouTube clips as AudioSet publishes them, and manifests that label the same clips otherwise."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from speechssl.data.youtube_clips import clip_id
from speechssl.errors import UserError
from speechssl.files import read_json


@dataclass
class Segments:
    """One list: `published` clips by its own header, and of those in the file start (seconds) and labels by id."""

    published: int = 0
    repeated: int = 0
    starts: dict[str, float] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)


def read_segments(path: Path) -> Segments:
    """Read one list: comment lines, then rows such as `bUBfTuRD1ac, 30.000, 40.000, "/m/09x0r,/m/05zppz"`."""
    segments = Segments()
    known: dict[str, list[str]] = {}  # one list object per set of labels: there are far fewer than clips
    with open(path, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row or row[0].startswith("#"):
                segments.published = max(segments.published, _announced(row))
                continue
            if len(row) != 4 or not row[1].replace(".", "", 1).isdigit():
                raise UserError(
                    f"{path}, line {number}: expected YTID, start, end, labels, found {', '.join(row)[:80]}"
                )
            clip, start, _, labels = row
            segments.repeated += clip in segments.starts
            segments.starts[clip] = float(start)
            segments.labels[clip] = known.setdefault(labels, labels.split(","))
    if not segments.starts:
        raise UserError(f"{path} lists no clips; expected rows of YTID, start, end, labels")
    segments.published = max(segments.published, len(segments.starts))
    return segments


def _announced(comment: list[str]) -> int:
    """Return the number in `# num_ytids=22160, num_segs=22160, ...`, 0 where a comment has none."""
    values = [part.partition("=")[2] for part in comment if part.strip().startswith("num_segs=")]
    return int(values[0]) if values and values[0].isdigit() else 0


def other_labels(path: str | Path, starts: Mapping[str, float]) -> dict[str, list[str]]:
    """Return machine ids of labels by clip, from a table like the lists or a JSON manifest."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"labels_file={path} does not exist; expected a CSV like AudioSet's lists, or a JSON manifest")
    if path.suffix.lower() != ".json":
        return read_segments(path).labels
    labels = {}
    content = read_json(path)
    for entry in content.get("data", ()) if isinstance(content, dict) else ():
        if not isinstance(entry, dict) or not {"wav", "labels"} <= entry.keys():
            raise UserError(f'{path}: expected entries {{"wav": path, "labels": "mid,mid"}}, found {str(entry)[:80]}')
        clip = clip_id(Path(entry["wav"]).stem, starts)
        if clip is not None:
            labels[clip] = entry["labels"].split(",")
    if not labels:
        raise UserError(f'{path} labels none of the clips; expected {{"data": [{{"wav": path, "labels": "mid,mid"}}]}}')
    return labels
