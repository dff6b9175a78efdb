"""Lhotse cut manifests, written without lhotse: gzip, one JSON object per line, the same bytes every time.

Source paths inside the corpus folder are relative to the manifest's own folder, so a corpus can be moved as a
whole.
"""

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from speechssl.data.items import Item
from speechssl.data.shards import SAMPLE_RATE
from speechssl.files import atomic_path

CORPUS_FILE = "corpus.json"
FORMAT = 1  # of corpus.json and everything beside it
SUFFIX = ".jsonl.gz"
SUPERVISION_COLUMNS = ("speaker", "gender", "text", "language")
RMS = "rms"  # custom column: root mean square of the utterance as stored, 1 = full scale

Row = tuple[str, int, Mapping[str, Any]]  # id, samples at 16 kHz, columns


def write_manifest(path: Path, cuts: Iterable[dict[str, Any]]) -> None:
    """Write cuts as JSON lines, atomically. Neither a time nor a file name enters the bytes."""
    with (
        atomic_path(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file,
    ):
        for cut in cuts:
            file.write((json.dumps(cut) + "\n").encode("ascii"))


def cut_of(item: Item, record: dict[str, Any], folder: Path, out: Path) -> dict[str, Any]:
    """Return the lhotse cut of a stored item for a manifest in `folder` of the corpus `out`."""
    seconds = record["samples"] / SAMPLE_RATE
    if "shard" in record:
        source = os.path.relpath(out / "audio" / record["shard"], folder)
        recording = _recording(Path(record["shard"]).stem, source, SAMPLE_RATE, record["shard_samples"], 1)
        start = record["start"] / SAMPLE_RATE
    else:
        rate, channels = record["rate"], record["channels"]
        recording = _recording(item.id, os.path.abspath(item.audio), rate, record["source_samples"], channels)
        start, seconds = record["source_start"] / rate, record["source_length"] / rate
    channels = recording["channel_ids"]
    channel = channels[0] if len(channels) == 1 else channels
    supervision = {
        "id": item.id,
        "recording_id": recording["id"],
        "start": 0.0,
        "duration": seconds,
        "channel": channel,
    }
    known = {name: value for name in SUPERVISION_COLUMNS if (value := getattr(item, name)) is not None}
    return {
        "id": item.id,
        "start": start,
        "duration": seconds,
        "channel": channel,
        "supervisions": [supervision | known],
        "recording": recording,
        "custom": {**item.custom, RMS: record["rms"]},
        "type": "MonoCut" if len(channels) == 1 else "MultiCut",
    }


def _recording(identifier: str, source: str, rate: int, num_samples: int, num_channels: int) -> dict[str, Any]:
    channels = list(range(num_channels))
    return {
        "id": identifier,
        "sources": [{"type": "file", "channels": channels, "source": source}],
        "sampling_rate": rate,
        "num_samples": num_samples,
        "duration": num_samples / rate,
        "channel_ids": channels,
    }


def item_rows(items: Iterable[Item], records: Mapping[str, dict[str, Any]]) -> Iterator[Row]:
    """Yield what the fingerprint is made of, as a table read back from the manifest would."""
    for item in items:
        known = {name: getattr(item, name) for name in SUPERVISION_COLUMNS}
        yield item.id, records[item.id]["samples"], known | item.custom


def fingerprint(name: str, view: str, fold: str, splits: Mapping[str, Iterable[Row]]) -> str:
    """Return a hash of identity, ids, lengths and labels in manifest order; file locations do not enter."""
    state = hashlib.sha256(json.dumps([name, view, fold]).encode())
    for split, rows in splits.items():
        state.update(f"\n{split}\n".encode())
        for identifier, num_samples, columns in rows:
            known = {key: value for key, value in columns.items() if value is not None and key != RMS}
            state.update(json.dumps([identifier, num_samples, known], sort_keys=True, default=str).encode())
    return state.hexdigest()[:16]


def duration_summary(num_samples: list[int]) -> dict[str, Any]:
    """Return count, hours and length quantiles in seconds."""
    ordered = sorted(num_samples)
    picks = {"min": 0, "median": len(ordered) // 2, "p95": len(ordered) * 95 // 100, "max": len(ordered) - 1}
    seconds = {name: round(ordered[index] / SAMPLE_RATE, 3) for name, index in picks.items()}
    return {
        "utterances": len(ordered),
        "hours": round(sum(ordered) / SAMPLE_RATE / 3600, 4),
        "seconds": seconds,
    }
