"""The last step of `prepare`: the manifests of a corpus and its views, then `corpus.json`, the done mark."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.manifest import (
    CORPUS_FILE,
    FORMAT,
    SUFFIX,
    cut_of,
    duration_summary,
    fingerprint,
    item_rows,
    write_manifest,
)
from speechssl.data.splits import assign_splits, hash64
from speechssl.errors import UserError
from speechssl.files import write_json

Records = Mapping[str, dict[str, Any]]


def write_corpus(out: Path, preparation: Preparation, records: Records, settings: dict[str, Any]) -> None:
    """Write everything but the audio; `corpus.json` of the corpus itself comes last."""
    seed = settings["seed"]
    readable = [item for item in preparation.items if "skipped" not in records[item.id]]
    readable.sort(key=lambda item: (hash64(f"order/{seed}/{item.id}"), item.id))  # the shuffle, once and for all
    splits = assign_splits(readable, preparation.shares)
    members = {split: [item for item in readable if splits[item.id] == split] for split in SPLITS}
    skipped = [item for item in preparation.items if "skipped" in records[item.id]]
    info = _describe(out, out, preparation, members, records) | {
        "sampling_rates": _rates(readable, records),
        "clipped_samples": sum(records[item.id].get("clipped", 0) for item in readable),
        "skipped": [_skipped(item, records) for item in skipped],
        "coverage": preparation.coverage,
        "settings": settings,
    }
    for view in preparation.views:
        _write_view(out, preparation, view, readable, records)
    write_json(out / CORPUS_FILE, info)


def _write_view(out: Path, preparation: Preparation, view: View, readable: list[Item], records: Records) -> None:
    folder = out / view.folder
    wanted = {split: set(ids) for split, ids in view.splits.items()}
    members = {split: [_seen_in(view, i) for i in readable if i.id in ids] for split, ids in wanted.items()}
    info = _describe(out, folder, preparation, members, records, view.name, view.fold)
    info["left_out"] = sorted({i for ids in wanted.values() for i in ids if "skipped" in records[i]})
    write_json(folder / CORPUS_FILE, info)


def _seen_in(view: View, item: Item) -> Item:
    """Return the item with the columns that it has in the view."""
    other = {column: values[item.id] for column, values in view.columns.items() if item.id in values}
    return replace(item, custom=item.custom | other) if other else item


def _describe(
    out: Path,
    folder: Path,
    preparation: Preparation,
    members: dict[str, list[Item]],
    records: Records,
    view: str = "",
    fold: str = "",
) -> dict[str, Any]:
    """Write the manifests of one folder and return what `corpus.json` says of them."""
    members = {split: items for split, items in members.items() if items}
    if not members:
        raise UserError(f"{view or preparation.name}: not one of its utterances could be read")
    for split, items in members.items():
        write_manifest(folder / (split + SUFFIX), (cut_of(item, records[item.id], folder, out) for item in items))
    rows = {split: item_rows(items, records) for split, items in members.items()}
    return {
        "format": FORMAT,
        "name": preparation.name,
        "view": view,
        "fold": fold,
        "licence": preparation.licence,
        **({"task_size": preparation.task_size} if preparation.task_size else {}),
        "splits": {s: duration_summary([records[i.id]["samples"] for i in items]) for s, items in members.items()},
        "fingerprint": fingerprint(preparation.name, view, fold, rows),
        "statistics": {},
    }


def _rates(items: Iterable[Item], records: Records) -> dict[str, int]:
    counts = Counter(records[item.id]["rate"] for item in items)
    return {str(rate): counts[rate] for rate in sorted(counts)}


def _skipped(item: Item, records: Records) -> dict[str, str]:
    audio = "a function" if callable(item.audio) else item.audio
    source = audio if isinstance(audio, str) else audio[0]
    texts = {"id": item.id, "source": source, "reason": records[item.id]["skipped"]}
    return {name: text.encode("utf-8", "backslashreplace").decode() for name, text in texts.items()}
