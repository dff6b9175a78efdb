"""`extract`: a corpus through an upstream to disk, shard by shard."""

import logging
import time
from pathlib import Path
from typing import Any

import torch

from speechssl.data.cuts import open_corpus
from speechssl.data.progress import ProgressLine
from speechssl.errors import UserError, nearest
from speechssl.extract import encode, writer
from speechssl.files import read_json
from speechssl.hub import load_upstream, take_statistics, weights_sha256

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHARD_BYTES = 512 * 2**20  # upper bound aimed at; a single utterance may exceed it

logger = logging.getLogger(__name__)


def extract(
    upstream: str,
    data: str,
    out: str,
    *,
    split: str,
    layers: list[int] | None,
    pooling: str,
    format: str,
    dtype: str,
    device: str,
    max_seconds: float,
    num_workers: int,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write hidden states of `data` to `out`; return the summary that also stands in `out/extract.json`.

    Raises:
        UserError: unknown names or settings, or `out` begun with other settings.
    """
    _check(format, writer.FORMATS, "format")
    _check(dtype, DTYPES, "dtype")
    if format == "npy" and dtype == "bfloat16":
        raise UserError("npy has no bfloat16; choose dtype=float16 or format=safetensors")
    corpus = open_corpus(data)
    model = load_upstream(upstream, **(settings or {}))
    take_statistics(model, corpus)
    chosen = encode.check_layers(model, layers)
    splits = corpus.splits if split == "all" else [split]
    begun = {
        "upstream": upstream,
        "upstream_sha256": weights_sha256(model),
        "corpus_fingerprint": corpus.fingerprint,
        "splits": splits,
        "layers": chosen,
        "pooling": pooling,
        "format": format,
        "dtype": dtype,
    }
    folder = Path(out)
    if writer.check_settings(folder, begun):
        logger.info("%s is already complete", out)
        return read_json(folder / "extract.json")
    options = {"layers": layers, "pooling": pooling, "dtype": DTYPES[dtype]}
    options |= {"max_seconds": max_seconds, "num_workers": num_workers}
    return _write(model.to(device), [corpus.table(name) for name in splits], folder, begun, options)


def _write(model: Any, tables: list, folder: Path, settings: dict, options: dict) -> dict[str, Any]:
    started = time.monotonic()
    seconds = _seconds_per_shard(model, settings)
    plan = [(table, part) for table in tables for part in encode.parts(table, seconds)]
    done = {number: rows for number in range(len(plan)) if (rows := writer.read_part(folder, number)) is not None}
    total, finished = sum(len(part) for _, part in plan), sum(len(plan[number][1]) for number in done)
    with ProgressLine("extracting", total, finished) as progress:
        for number, (table, part) in enumerate(plan):
            if number not in done:
                encoded = encode.encode(model, table.select(part), progress=progress, **options)
                done[number] = writer.write_shard(folder, number, settings["format"], encoded)
    rows = [row for number in range(len(plan)) for row in done[number]]
    kept = [row for row in rows if "file" in row]
    if not kept:
        raise UserError(
            f"no utterance could be read; the first reason: {rows[0]['reason'] if rows else 'empty corpus'}"
        )
    skipped = [row for row in rows if "file" not in row]
    summary = settings | {
        "utterances": len(kept),
        "frames": sum(row["frames"] for row in kept),
        "hidden_size": model.hidden_size,
        "downsample_rate": model.downsample_rate,
        "skipped": skipped,
        "seconds": round(time.monotonic() - started, 1),
    }
    writer.finish(folder, rows, summary)
    return summary


def _seconds_per_shard(model: Any, settings: dict) -> float:
    """Seconds of audio whose features fill a shard (pooled features are small: a shard then holds up to 2 hours)."""
    size = torch.finfo(DTYPES[settings["dtype"]]).bits // 8
    rate = model.sample_rate / model.downsample_rate  # frames per second
    per_second = len(settings["layers"]) * model.hidden_size * size * rate
    return 7200.0 if settings["pooling"] != "none" else max(1.0, SHARD_BYTES / per_second)


def _check(value: str, known: Any, name: str) -> None:
    if value not in known:
        raise UserError(f"{name}={value!r} is not known; known: {', '.join(known)}{nearest(value, known)}")
