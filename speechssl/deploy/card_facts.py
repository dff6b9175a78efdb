"""What the files of a run directory tell about the model in it. Nothing is guessed: what no file tells is absent."""

import inspect
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from speechssl import configs, registry
from speechssl.data.cuts import Corpus
from speechssl.data.several import SeveralCorpora, open_corpora
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.train.checkpoint import checkpoints
from speechssl.train.logging import read_metrics


@dataclass
class Facts:
    """The files around an exported folder.

    Attributes:
        folder: with `config.json`.
        opened: the corpus, where the caller has it open already.
        origin: the exported folder that this one is a copy of, as in half precision; None = it is the first itself.
    """

    folder: Path
    opened: Corpus | None = None
    origin: Path | None = None
    description: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.description = read_json(self.folder / "config.json")

    @cached_property
    def run_dir(self) -> Path | None:
        """The run directory (or stage) that exported it; None for a folder on its own."""
        first = self.folder if self.origin is None else self.origin
        marks = ("config.yaml", "metrics.jsonl", "stage.json", "settings.json")
        own = first.resolve().name == "export" and any((first.parent / mark).is_file() for mark in marks)
        return first.parent if own else None

    @cached_property
    def stages(self) -> list[dict[str, Any]]:
        """The lineage of the run up to and including this stage; empty for a run of one stage."""
        entries = self._lineage.get("stages", [])
        names = [entry["name"] for entry in entries]
        marked = self.run_dir is not None and (self.run_dir / "stage.json").is_file()
        own = self.training.get("stage") or (read_json(self.run_dir / "stage.json")["name"] if marked else None)
        return entries[: names.index(own) + 1] if own in names else []

    @cached_property
    def _lineage(self) -> dict[str, Any]:
        staged = self.run_dir is not None and (self.run_dir / "stage.json").is_file()
        path = self.run_dir.resolve().parents[1] / "lineage.json" if staged else self.folder / "lineage.json"
        return read_json(path) if path.is_file() else {}

    @property
    def training(self) -> dict[str, Any]:
        """What the export itself says about the training."""
        return self.description.get("training") or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration of the run."""
        path = None if self.run_dir is None else self.run_dir / "config.yaml"
        if path is not None and path.is_file():
            return OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        return self._lineage.get("config", {})

    @cached_property
    def environment(self) -> dict[str, Any]:
        path = None if self.run_dir is None else self.run_dir / "environment.json"
        return read_json(path) if path is not None and path.is_file() else {}

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        return [] if self.run_dir is None else read_metrics(self.run_dir)

    @cached_property
    def precision(self) -> str | None:
        """The precision that was really used; the configuration may say "auto"."""
        kept = {} if self.run_dir is None else checkpoints(self.run_dir)
        settings = read_json(kept[max(kept)] / "checkpoint.json").get("settings", {}) if kept else {}
        named = settings.get("trainer.precision") or self.config.get("trainer", {}).get("precision")
        return None if named == "auto" else named

    @cached_property
    def size(self) -> str | None:
        """The name of the family's configuration that the model has, such as "tiny"."""
        family, config = self.description["family"], self.description.get("config", {})
        known = configurations(family, registry.folder("upstream", family))
        return next((size for size, complete in known.items() if config == complete), None)

    @cached_property
    def corpora(self) -> list[Corpus]:
        """The corpora it was trained on, where they still lie where they lay and are the same."""
        try:
            corpus = self.opened or open_corpora(self.config["data"])
        except (KeyError, UserError):
            return []
        if corpus.fingerprint != self.training.get("fingerprint"):
            return []
        return corpus.parts if isinstance(corpus, SeveralCorpora) else [corpus]

    @cached_property
    def languages(self) -> list[str]:
        """The languages that every one of the corpora names; empty where one names none."""
        found = [set(part.table("train").column("language")) for part in self.corpora if "train" in part.splits]
        return sorted(set().union(*found)) if found and all(None not in names for names in found) else []


@cache
def configurations(family: str, folder: Path) -> dict[str, dict[str, Any]]:
    """Return {size: all constructor arguments} of a family in its folder; composed once, for it takes half a second."""
    parameters = inspect.signature(registry.module("upstream", family).UPSTREAM).parameters
    defaults = {name: one.default for name, one in parameters.items()}
    sizes = registry.sizes("upstream", family)
    return {size: defaults | configs.load("upstream", f"{family}/{size}")[1] for size in sizes}
