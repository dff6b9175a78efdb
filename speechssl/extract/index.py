"""Read what `extract` wrote: features by utterance id."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from speechssl.errors import UserError, nearest
from speechssl.files import read_json


class ExtractedFeatures:
    """A finished folder of `speechssl extract`, read lazily.

    `features[id]` is (L', T, D), or (L', D) where it was pooled; `features.frames[id]` the number of valid frames.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not (self.path / "extract.json").is_file():
            raise UserError(
                f"{path} holds no finished extraction (extract.json is missing); run the same extract again"
            )
        self.info = read_json(self.path / "extract.json")
        lines = (self.path / "index.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if "file" in row]
        self.files = {row["id"]: row["file"] for row in rows}
        self.frames = {row["id"]: row["frames"] for row in rows}
        self._open: dict[str, safe_open] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __getitem__(self, utterance: str) -> Tensor:
        if utterance not in self.files:
            raise UserError(f"{self.path} has no utterance {utterance!r}{nearest(utterance, self.files)}")
        file = self.files[utterance]
        if file.endswith(".npy"):
            return torch.from_numpy(np.load(self.path / file, allow_pickle=False))
        if file not in self._open:
            self._open[file] = safe_open(self.path / file, framework="pt")
        return self._open[file].get_tensor(utterance)
