"""Labels of a tokenizer for whole corpora: one or two bytes each, whole or absent, read through memory maps.

`FOLDER/<split>/00000.npy` holds the labels of a shard's utterances one after the other, `00000.json` their ids and
counts. `FOLDER/begun.json` says what shards are made from, so that those of two tokenizers never mix.
`FOLDER/labels.json` is written last: which tokenizer made them, with which padding rule, of which corpus, and the hash
of every shard.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.files import atomic_path, digest, read_json, sha256, write_json

logger = logging.getLogger(__name__)

FORMAT = 1
HEADER = "labels.json"
BEGUN = "begun.json"  # what the shards that are there were made from


def label_type(num_codes: int) -> np.dtype:
    """Return the smallest unsigned integer type that holds 0..num_codes - 1."""
    return np.dtype(np.uint8 if num_codes <= 2**8 else np.uint16 if num_codes <= 2**16 else np.uint32)


def check_origin(folder: Path, origin: dict[str, str]) -> None:
    """Raise UserError where shards of another tokenizer or corpus lie in a folder that was begun before."""
    if (folder / BEGUN).is_file() and (before := read_json(folder / BEGUN)) != origin:
        name = next(name for name in origin if before.get(name) != origin[name])
        raise UserError(
            f"{folder} was begun with another {name} ({before.get(name)}, now {origin[name]}); "
            f"remove {folder} and run the same command again"
        )


def begin(folder: Path, origin: dict[str, str]) -> None:
    """Note what the shards of a folder are made from."""
    write_json(folder / BEGUN, origin)


def write_shard(folder: Path, number: int, labels: dict[str, np.ndarray], num_codes: int) -> None:
    """Write the labels of a shard's utterances, {id: (N,)}; an id without labels counts 0."""
    flat = np.concatenate([np.zeros(0, np.int64), *labels.values()]).astype(label_type(num_codes))
    with atomic_path(folder / f"{number:05d}.npy") as temporary, open(temporary, "wb") as file:
        np.save(file, flat)
    counts = [len(row) for row in labels.values()]
    index = {"ids": list(labels), "counts": counts, "sha256": sha256(folder / f"{number:05d}.npy")}
    write_json(folder / f"{number:05d}.json", index)  # last: a shard with it is whole


def has_shard(folder: Path, number: int) -> bool:
    """Return whether a shard is whole."""
    return (folder / f"{number:05d}.json").is_file()


def finish(folder: Path, header: dict[str, Any], shards: dict[str, int]) -> str:
    """Write the header of {split: number of shards}, which marks the folder as complete; return its digest."""
    hashes = {
        split: [read_json(folder / split / f"{number:05d}.json")["sha256"] for number in range(count)]
        for split, count in shards.items()
    }
    content = {"format": FORMAT, **header, "shards": hashes}
    content["sha256"] = digest(content)
    write_json(folder / HEADER, content)
    return content["sha256"]


class StoredLabels:
    """The labels in a folder (`speechssl.interfaces.Labels`).

    Args:
        folder: with `labels.json`.

    Raises:
        UserError: not finished, of a newer format, or shards that are missing or of another length.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.header = folder, read_json(folder / HEADER)
        if self.header["format"] > FORMAT:
            raise UserError(
                f"{folder} has format {self.header['format']}, this version reads up to {FORMAT}; upgrade speechssl"
            )
        expected = digest({key: value for key, value in self.header.items() if key != "sha256"})
        if self.header["sha256"] != expected:
            raise UserError(f"{folder / HEADER} is not what was written (sha256 differs); label the corpus again")
        self.num_codes, self.tokenizer_sha256 = self.header["num_codes"], self.header["tokenizer_sha256"]
        self._arrays: list[np.ndarray] = []
        self._places: dict[str, tuple[int, int, int]] = {}  # id: shard, first label, count
        for split, hashes in self.header["shards"].items():
            for number in range(len(hashes)):
                self._open(folder / split / f"{number:05d}.npy")

    def _open(self, path: Path) -> None:
        index = read_json(path.with_suffix(".json"))
        if not path.is_file():
            raise UserError(f"{path} is missing; remove {self.folder} and run the same command again")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        ends = np.cumsum(index["counts"], dtype=np.int64)
        if len(array) != (int(ends[-1]) if len(ends) else 0):
            raise UserError(
                f"{path} holds {len(array)} labels, its index {ends[-1]}; remove {self.folder} and run again"
            )
        for name, end, count in zip(index["ids"], ends.tolist(), index["counts"], strict=True):
            self._places[name] = (len(self._arrays), end - count, count)
        self._arrays.append(array)

    def __len__(self) -> int:
        return len(self._places)

    def rows(self, ids: Sequence[str], starts: Sequence[int], counts: Sequence[int]) -> Tensor:
        """Return (B, max(counts)) int64: `counts` labels of each utterance from label `starts` on, then -1.

        Raises:
            UserError: an utterance without labels, or with fewer than were asked for.
        """
        out = torch.full((len(ids), max(counts, default=0)), -1, dtype=torch.int64)
        for row, (name, start, count) in enumerate(zip(ids, starts, counts, strict=True)):
            if name not in self._places:
                raise UserError(f"{self.folder} has no labels of {name}; label the corpus again")
            shard, first, there = self._places[name]
            if start + count > there:
                raise UserError(
                    f"{self.folder} has {there} labels of {name}, expected {start + count}: the audio or its frontend "
                    "has changed; label the corpus again"
                )
            part = self._arrays[shard][first + start : first + start + count]
            out[row, :count] = torch.from_numpy(part.astype(np.int64))
        return out

    def histogram(self) -> np.ndarray:
        """Return how often each code occurs, (V,) int64."""
        total = np.zeros(self.num_codes, np.int64)
        for array in self._arrays:
            total += np.bincount(array, minlength=self.num_codes)
        return total
