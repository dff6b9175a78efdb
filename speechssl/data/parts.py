"""The unit of work of `prepare`: read some hundred items, check them, pack them into a shard, take notes.

A part is done when its record file exists, and that is written after the part's shards are in place. A killed
run therefore loses the parts that were being worked on and nothing else, and no file is ever half-written.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechssl.audio import audio_info, read_audio, resample
from speechssl.data.items import Item, Samples
from speechssl.data.shards import SAMPLE_RATE, PartWriter, pcm16_rms, resampled_length, to_pcm16
from speechssl.errors import AudioError, UserError
from speechssl.files import read_json, write_text

PART_ITEMS = 500
PART_BYTES = 256 * 2**20  # of source audio, as a guess at its length that needs no decoding
COMPRESSED = {".ogg": 8, ".opus": 8, ".mp3": 8, ".flac": 2}  # PCM bytes per file byte, roughly
MAX_SECONDS = 8 * 3600  # 0.92 GB: a shard is at most 1 GB
MIN_SECONDS = 0.1
LENGTH_TOLERANCE = SAMPLE_RATE // 100  # samples, 10 ms: more missing audio than this is damage


@dataclass
class Part:
    """Consecutive items of a plan; `number` names its files."""

    number: int
    items: list[Item]


@dataclass
class PartSummary:
    """What the progress line needs to know of a finished part."""

    num_items: int
    num_skipped: int
    seconds: float


def make_parts(items: list[Item]) -> list[Part]:
    """Divide the plan's items, in order, into parts bounded in count and (roughly) in hours of audio."""
    parts: list[Part] = []
    size = 0
    for item in items:
        cost = _guess_bytes(item)
        if not parts or size + cost > PART_BYTES or len(parts[-1].items) == PART_ITEMS:
            parts.append(Part(len(parts), []))
            size = 0
        parts[-1].items.append(item)
        size += cost
    return parts


def _guess_bytes(item: Item) -> int:
    if item.duration is not None:
        return int(item.duration * SAMPLE_RATE * 2)
    if callable(item.audio):
        return 0
    paths = [Path(p) for p in ([item.audio] if isinstance(item.audio, str) else item.audio)]
    return sum(p.stat().st_size * COMPRESSED.get(p.suffix.lower(), 1) for p in paths if p.is_file())


def record_path(work: Path, number: int) -> Path:
    return work / f"{number:05d}.json"


def records_by_id(parts: list[Part], work: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Return the records of all parts by item id.

    A record is {"skipped": reason} or {"samples" at 16 kHz, "rms", "rate" of the source in Hz} with, when
    packed, {"shard" name, "start" sample, "shard_samples", "clipped"}, else {"source_start", "source_length",
    "source_samples" (of the whole file) in samples of the source, and its "channels"}.

    Raises:
        UserError: not one is readable; the attempt is undone, so that mended files are looked at again.
    """
    records: dict[str, dict[str, Any]] = {}
    for part in parts:
        found = read_json(record_path(work, part.number))
        records |= {item.id: record for item, record in zip(part.items, found, strict=True)}
    if all("skipped" in record for record in records.values()):
        shutil.rmtree(work)
        shutil.rmtree(out / "audio", ignore_errors=True)
        first = next(iter(records.values()))["skipped"]
        raise UserError(f"none of the {len(records)} audio files can be used; the first: {first}")
    return records


def run_part(part: Part, out: Path, work: Path, pack: bool) -> PartSummary:
    """Read, check and (with `pack`) store the items of one part, then write its records."""
    records = list(_pack_items(part, out / "audio") if pack else map(_check_item, part.items))
    ends = {r["shard"]: r["start"] + r["samples"] for r in records if "shard" in r}  # the last of each shard
    for record in records:
        if "shard" in record:
            record["shard_samples"] = ends[record["shard"]]
    text = "[\n" + ",\n".join(json.dumps(record, allow_nan=False) for record in records) + "\n]\n"
    write_text(record_path(work, part.number), text)
    seconds = sum(record.get("samples", 0) for record in records) / SAMPLE_RATE
    return PartSummary(len(records), sum("skipped" in record for record in records), seconds)


def _pack_items(part: Part, folder: Path) -> Iterator[dict[str, Any]]:
    with PartWriter(folder, part.number) as writer:
        for item in part.items:
            try:
                samples, rate = read_item(item)
                pcm, clipped = to_pcm16(samples)
                _refuse_unusable(pcm, item.may_be_silent)
            except AudioError as error:
                yield {"skipped": str(error)}
                continue
            shard, start = writer.append(pcm)
            yield {
                "shard": shard,
                "start": start,
                "samples": len(pcm),
                "rms": pcm16_rms(pcm),
                "clipped": clipped,
                "rate": rate,
            }


def _check_item(item: Item) -> dict[str, Any]:
    """Record an item whose audio stays where it is; decoded all the same, for headers of broken files lie."""
    try:
        info = audio_info(item.audio)
        samples, rate = read_item(item)
        _refuse_unusable(samples, item.may_be_silent)
    except AudioError as error:
        return {"skipped": str(error)}
    start = round(item.start * rate)
    length = info.num_samples - start if item.duration is None else round(item.duration * rate)
    expected = resampled_length(length, rate)
    if abs(len(samples) - expected) > LENGTH_TOLERANCE:
        seconds, found = expected / SAMPLE_RATE, len(samples) / SAMPLE_RATE
        return {"skipped": f"{item.audio} should hold {seconds:.2f} s but decodes to {found:.2f} s"}
    wide = samples.astype(np.float64)
    return {
        "samples": expected,
        "rms": float(np.sqrt(np.mean(wide * wide))),
        "rate": rate,
        "source_start": start,
        "source_length": length,
        "source_samples": info.num_samples,
        "channels": info.channels,
    }


def _refuse_unusable(samples: np.ndarray, may_be_silent: bool) -> None:
    seconds = len(samples) / SAMPLE_RATE
    if seconds < MIN_SECONDS:
        raise AudioError(f"only {seconds:.3f} s long, at least {MIN_SECONDS} s are needed")
    if seconds > MAX_SECONDS:
        raise AudioError(
            f"{seconds / 3600:.1f} h in one piece, at most {MAX_SECONDS // 3600} h fit a shard; cut it first"
        )
    if not may_be_silent and not samples.any():
        raise AudioError("silent: every sample is zero")


def read_item(item: Item) -> tuple[np.ndarray, int]:
    """Return an item's samples (S,) at 16 kHz, mono, and the rate of its (first) source in Hz.

    Raises:
        AudioError: any of its files is missing, unreadable, truncated, not finite or shorter than the item.
    """
    start, stop = item.start, None if item.duration is None else item.start + item.duration
    if isinstance(item.audio, str):
        rate = audio_info(item.audio).sample_rate
        return read_audio(item.audio, start_seconds=start, duration_seconds=item.duration), rate
    if callable(item.audio):
        samples, rate = _call(item.audio)
    else:
        rate = audio_info(item.audio[0]).sample_rate
        samples = np.concatenate([read_audio(path) for path in item.audio])
    if start == 0 and stop is None:
        return samples, rate
    first, last = round(start * SAMPLE_RATE), len(samples) if stop is None else round(stop * SAMPLE_RATE)
    if last > len(samples) + LENGTH_TOLERANCE:
        raise AudioError(f"ends after {len(samples) / SAMPLE_RATE:.2f} s, {last / SAMPLE_RATE:.2f} s were expected")
    return samples[first:last], rate


def _call(function: Samples) -> tuple[np.ndarray, int]:
    samples, rate = function()
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise AudioError(
            f"mono, finite samples were expected, found shape {samples.shape} or values that are not finite"
        )
    return resample(samples, rate, SAMPLE_RATE), rate
