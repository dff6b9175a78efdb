"""Corpora: manifests that belong together, what is known of them, and their utterances as tables."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from speechssl.data.items import SPLITS
from speechssl.data.manifest import CORPUS_FILE, FORMAT, SUFFIX, fingerprint
from speechssl.data.scan import scan
from speechssl.data.table import CutTable
from speechssl.errors import UserError
from speechssl.files import read_json

__all__ = ["Corpus", "CutTable", "fold_folders", "open_corpus"]


@dataclass
class Corpus:
    """Manifests that belong together.

    Attributes:
        path: the prepared folder, or the manifest file.
        name: of the corpus; `view` and `fold` say which of several sets of manifests over its audio this is.
        splits: those that exist, of "train", "dev", "test".
        info: content of `corpus.json`; empty for manifests of other programs.
    """

    path: Path
    name: str
    view: str
    fold: str
    splits: list[str]
    info: dict[str, Any]
    manifests: dict[str, Path]
    _tables: dict[str, CutTable] = field(default_factory=dict)

    def table(self, split: str) -> CutTable:
        """Return the utterances of a split; read once."""
        if split not in self.manifests:
            raise UserError(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}")
        if split not in self._tables:
            self._tables[split] = CutTable(scan(self.manifests[split]))
        return self._tables[split]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of identity, ids, lengths and labels; the same wherever the corpus lies."""
        if "fingerprint" in self.info:
            return self.info["fingerprint"]
        rows = {split: self.table(split).rows() for split in self.splits}
        return fingerprint(self.name, self.view, self.fold, rows)

    @cached_property
    def left_out(self) -> frozenset[str]:
        """Ids of utterances that `prepare` could not read; other utterances may still name them in their columns."""
        return frozenset(self.info.get("left_out", [entry["id"] for entry in self.info.get("skipped", ())]))

    @property
    def statistics_file(self) -> Path:
        """Where `statistics` keeps its results."""
        if self.info:
            return self.path / CORPUS_FILE
        folder, stem = (self.path, "corpus") if self.path.is_dir() else (self.path.parent, _stem(self.path))
        return folder / f"{stem}.statistics.json"

    def statistics(self, frontend: Any) -> tuple[Any, Any]:
        """Return mean (F,) and std (F,), float64 tensors, of a frontend's unnormalised features over train.

        Computed once, then kept under `frontend.key`; see `speechssl.data.statistics`.
        """
        from speechssl.data.statistics import stored_statistics

        return stored_statistics(self, frontend)


def open_corpus(data: str | Path) -> Corpus:
    """Open a prepared folder (or a view in it), a folder of cut manifests, or one manifest as split "train".

    Raises:
        UserError: nothing there, not prepared, or not finished.
    """
    path = Path(data)
    if path.is_file():
        return Corpus(path, _stem(path), "", "", ["train"], {}, {"train": path})
    if not path.is_dir():
        raise UserError(f"data={path} does not exist; expected a prepared folder or a lhotse cut manifest")
    manifests = {split: path / (split + SUFFIX) for split in SPLITS if (path / (split + SUFFIX)).is_file()}
    _refuse_half(path)
    if not manifests:
        raise UserError(f"{path} holds no manifests; make them: speechssl prepare corpus=folder source={path} out=...")
    if not (path / CORPUS_FILE).is_file():
        return Corpus(path, path.resolve().name, "", "", list(manifests), {}, manifests)
    info = read_json(path / CORPUS_FILE)
    if info.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {info.get('format')}, this version reads {FORMAT}; prepare the corpus again"
        )
    return Corpus(path, info["name"], info["view"], info["fold"], list(manifests), info, manifests)


def fold_folders(data: str | Path) -> list[Path]:
    """Return the prepared views in a folder that holds nothing else ("fold1", "fold2", ..., "fold10"), else the path.

    So `data=OUT/folds` means all folds, in the order of their numbers.

    Raises:
        UserError: the corpus they belong to is not finished, so that folds may be missing.
    """
    path = Path(data)
    if not path.is_dir():
        return [path]
    for folder in path.resolve().parents[:2]:
        _refuse_half(folder)
    inside = [found for found in path.iterdir() if not found.name.startswith(".")]
    if not inside or not all((found / CORPUS_FILE).is_file() for found in inside):
        return [path]
    return sorted(inside, key=lambda found: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", found.name)])


def _refuse_half(path: Path) -> None:
    if (path / ".parts").is_dir() and not (path / CORPUS_FILE).is_file():
        raise UserError(f"{path} is only half prepared; run the same `speechssl prepare` command again to finish it")


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz")
    return name[: name.rfind(".")] if "." in name else name
