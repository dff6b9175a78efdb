"""Reads a lhotse cut manifest into columns.

A cut over one plain file becomes a row of numbers; that is nearly every cut, takes microseconds and needs no
lhotse. Everything else (mixed cuts, augmented or generated audio, sources that are no files) keeps its JSON
and goes through lhotse when it is read.
"""

import gzip
import json
import logging
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechssl.data.manifest import RMS, SUPERVISION_COLUMNS
from speechssl.data.shards import resampled_length
from speechssl.errors import UserError

logger = logging.getLogger(__name__)

MEAN = -1  # channel: the mean of all
FOREIGN = -1  # source: the cut's own JSON says where its audio is


class Columns:
    """A manifest while it is being read; `speechssl.data.cuts.CutTable` explains the columns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] = []
        self.num_samples, self.start, self.count = array("q"), array("q"), array("q")
        self.rate, self.source, self.channel = array("i"), array("i"), array("h")
        self.sources: list[str] = []
        self.labels: dict[str, list[Any]] = {}
        self.foreign: dict[int, str] = {}
        self.empty: list[str] = []  # ids of cuts without duration, left out
        self._source_index: dict[str, int] = {}
        self._same: dict[str, str] = {}  # one object per distinct string: labels repeat

    def add(self, cut: dict[str, Any]) -> None:
        """Append one cut; cuts of zero duration are only listed."""
        plain = _plain(cut)
        if plain is None:
            cut, row = _through_lhotse(cut), (FOREIGN, 0, 0, 0, MEAN)
            num_samples, text = cut.pop("num_samples"), cut.pop("text")
        else:
            source, start, count, rate, channel = plain
            num_samples = resampled_length(count, rate)
            row = (self._source(source), start, count, rate, channel)
        if num_samples <= 0:
            self.empty.append(cut["id"])
            return
        if row[0] == FOREIGN:
            self.foreign[len(self.ids)] = text
        self.num_samples.append(num_samples)
        for column, value in zip((self.source, self.start, self.count, self.rate, self.channel), row, strict=True):
            column.append(value)
        self._label(cut)
        self.ids.append(cut["id"])

    def _source(self, path: str) -> int:
        index = self._source_index.setdefault(path, len(self.sources))
        if index == len(self.sources):
            self.sources.append(path)
        return index

    def _label(self, cut: dict[str, Any]) -> None:
        row = len(self.ids)
        for name, value in _labels_of(cut).items():
            column = self.labels.setdefault(name, [])
            column.extend([None] * (row - len(column)))
            column.append(self._same.setdefault(value, value) if isinstance(value, str) else value)


def scan(path: Path) -> Columns:
    """Read a cut manifest.

    Raises:
        UserError: missing, damaged, no cut manifest, without usable cuts, or with an id that occurs twice.
    """
    columns = Columns(path)
    for number, cut in enumerate(_cuts(path), 1):
        try:
            columns.add(cut)
        except UserError:
            raise
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                f"{path}, line {number}: expected a lhotse cut, found something else ({error!r})"
            ) from error
    if columns.empty:
        shown = ", ".join(columns.empty[:3])
        logger.warning("%s: %d cuts have no duration and are left out (%s ...)", path, len(columns.empty), shown)
    if not columns.ids:
        raise UserError(f"{path} holds no cuts with audio; expected at least one utterance")
    _refuse_duplicates(columns)
    for column in columns.labels.values():
        column.extend([None] * (len(columns.ids) - len(column)))
    return columns


def _refuse_duplicates(columns: Columns) -> None:
    if len(set(columns.ids)) < len(columns.ids):
        seen: set[str] = set()
        twice = next(i for i in columns.ids if i in seen or seen.add(i))
        raise UserError(f"{columns.path}: the cut id {twice!r} occurs twice; ids must be unique")


def _cuts(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"manifest {path} does not exist")
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        yield from _json_lines(path)
    elif name.endswith((".json", ".yaml", ".yml")):
        yield from _other_format(path)
    else:
        raise UserError(f"{path} is no cut manifest; expected .jsonl.gz, .jsonl, .json or .yaml (audio: `prepare` it)")


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for line in file:
                number += 1
                if line.strip():
                    yield json.loads(line)
    except UserError:
        raise
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path} is damaged at or after line {number} ({error}); write it again") from error


def _other_format(path: Path) -> Iterator[dict[str, Any]]:
    import lhotse

    try:
        cuts = lhotse.CutSet.from_file(path)
        for cut in cuts:
            yield cut.to_dict()
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AssertionError, AttributeError) as error:
        raise UserError(f"{path} is not a readable lhotse cut manifest ({error})") from error


def _plain(cut: dict[str, Any]) -> tuple[str, int, int, int, int] | None:
    """Return (file, start, count, rate, channel) in samples of the source; None for what lhotse must read."""
    recording = cut.get("recording")
    if cut["type"] not in ("MonoCut", "MultiCut") or not recording or recording.get("transforms"):
        return None
    sources = recording["sources"]
    if len(sources) != 1 or sources[0]["type"] != "file":
        return None
    channel = _channel(cut["channel"], sources[0]["channels"])
    if channel is None:
        return None
    rate = recording["sampling_rate"]
    return sources[0]["source"], round(cut["start"] * rate), round(cut["duration"] * rate), rate, channel


def _channel(wanted: int | list[int], channels: list[int]) -> int | None:
    if len(channels) == 1 or wanted == channels:
        return MEAN
    if isinstance(wanted, int):
        return channels.index(wanted)
    return channels.index(wanted[0]) if len(wanted) == 1 else None


def _through_lhotse(cut: dict[str, Any]) -> dict[str, Any]:
    """Describe a cut that only lhotse understands: its id, labels, samples at 16 kHz and JSON text."""
    from lhotse.serialization import deserialize_item

    text = json.dumps(cut)
    known = deserialize_item(cut)
    if not known.has_recording:
        raise UserError(f"cut {known.id} has no recording; features alone cannot be used, speechssl reads audio")
    first = known if not hasattr(known, "tracks") else next(t.cut for t in known.tracks if hasattr(t.cut, "custom"))
    custom = {k: v for k, v in (first.custom or {}).items() if isinstance(v, str | int | float | list)}
    custom.pop(RMS, None)  # it was the level of the cut before it was mixed or altered
    return {
        "id": known.id,
        "supervisions": [s.to_dict() for s in known.supervisions],
        "custom": custom,
        "num_samples": resampled_length(known.num_samples, known.sampling_rate),
        "text": text,
    }


def _labels_of(cut: dict[str, Any]) -> dict[str, Any]:
    """Return all columns of a cut: its own custom ones win over its supervisions'."""
    supervisions = cut.get("supervisions") or []
    labels: dict[str, Any] = {}
    for supervision in supervisions:
        labels |= supervision.get("custom") or {}
    labels |= cut.get("custom") or {}
    for name in SUPERVISION_COLUMNS:
        values = [s[name] for s in supervisions if s.get(name) is not None]
        if values:
            labels[name] = " ".join(values) if name == "text" else values[0] if len(set(values)) == 1 else None
    return labels
