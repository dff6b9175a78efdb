"""Start from weights that exist: those of a run, of an exported folder or of a published checkpoint."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import load_safetensors, read_json
from speechssl.interfaces import PretrainTask
from speechssl.train.checkpoint import UPSTREAM_PREFIX, find_export, load_checkpoint, newest_checkpoint

LOGGER = logging.getLogger(__name__)
HEAD = "head.json"  # beside a fine-tuned upstream


@dataclass
class Taken:
    """What was taken of a source; names are those of the pretraining task's state dict."""

    source: str
    taken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # not in the source: left as initialised
    unused: list[str] = field(default_factory=list)  # in the source only
    reshaped: list[str] = field(default_factory=list)  # in both with different shapes: left as initialised

    def __str__(self) -> str:
        total = len(self.taken) + len(self.missing) + len(self.reshaped)
        lines = [f"init_from {self.source}: took {len(self.taken)} of {total} tensors"]
        for names, why in (
            (self.missing, "not in it, left as initialised"),
            (self.reshaped, "of another shape, left as initialised"),
            (self.unused, "in it, not needed"),
        ):
            if names:
                lines.append(f"  {len(names)} {why}: {', '.join(_shortened(names))}")
        return "\n".join(lines)


def initialise(task: PretrainTask, source: str) -> Taken:
    """Copy into a pretraining task whatever fits of a source, its prediction head included.

    Args:
        task: the objective around the upstream; changed in place.
        source: a run directory (finished or not), an exported folder, or `family:FILE`.

    Raises:
        UserError: nothing there, another family, or nothing in it that fits.
    """
    found = _read(source, task.upstream.family)
    own = task.state_dict()
    report = Taken(source)
    for name, tensor in own.items():
        if name not in found:
            report.missing.append(name)
        elif found[name].shape != tensor.shape:
            report.reshaped.append(name)
        else:
            report.taken.append(name)
    _refuse_another_model(task, found, report)
    report.unused = sorted(found.keys() - own.keys())
    if not report.taken:
        raise UserError(f"init_from={source}: none of its {len(found)} tensors fits this configuration")
    task.load_state_dict({name: found[name] for name in report.taken}, strict=False)
    LOGGER.info("%s", report)
    return report


def labels_seen(source: str) -> bool | None:
    """Return whether labels took part in the training of a model, or of any model it descends from.

    True for a fine-tuned one, what its lineage says for one of ours, None where nobody knows: a published file.
    """
    folder = find_export(Path(source)) if Path(source).is_dir() else None
    if folder is None:
        return None
    if (folder / HEAD).is_file():
        return True
    return read_json(folder / "config.json").get("training", {}).get("labels_seen")


def either(first: bool | None, second: bool | None) -> bool | None:
    """Return whether one of two models has seen labels; None where that is not known."""
    return True if first or second else None if None in (first, second) else False


def _refuse_another_model(task: PretrainTask, found: dict[str, Tensor], report: Taken) -> None:
    """Raise UserError where a tensor without which the others mean nothing has another shape."""
    own = task.state_dict()
    for name in (f"{UPSTREAM_PREFIX}{essential}" for essential in task.upstream.essential):
        if name in report.reshaped:
            there, here = tuple(found[name].shape), tuple(own[name].shape)
            raise UserError(
                f"init_from={report.source} is another model: its {name} has shape {there}, here it is {here}; "
                "choose the size and variant that it was trained with"
            )


def _read(source: str, family: str) -> dict[str, Tensor]:
    """Return the tensors of a source under the names of the pretraining task's state dict."""
    if Path(source).is_dir():
        return _read_folder(Path(source), family)
    bundled = registry.bundled(family)
    if source in (f"{family}/{size}" for size in bundled):
        return _read_folder(bundled[source.partition("/")[2]], family)
    prefix, colon, file = source.partition(":")
    if not colon:
        there = "".join(f", {family}/{size}" for size in bundled)
        raise UserError(
            f"init_from={source} does not exist; expected a run directory, an exported folder, family:FILE{there}"
        )
    if prefix != family:
        registry.folder("upstream", prefix)
        raise UserError(f"init_from={source} is of the family {prefix}, but {family} is to be trained")
    published = getattr(registry.module("upstream", family), "PUBLISHED", None)
    if published is None:
        raise UserError(f"upstream {family} has no published checkpoint format; give a run directory")
    content = published.read(Path(file))
    return _prefixed(content.upstream_state) | content.task_state


def _read_folder(folder: Path, family: str) -> dict[str, Tensor]:
    export = find_export(folder)
    if export is not None:
        found = read_json(export / "config.json").get("family")
        if found != family:
            raise UserError(f"init_from={folder} is of the family {found}, but {family} is to be trained")
        head = export / "pretraining.safetensors"
        own = load_safetensors(head) if head.is_file() else {}
        return _prefixed(load_safetensors(export / "model.safetensors")) | own
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"init_from={folder} holds neither an exported model nor a checkpoint")
    state = load_checkpoint(checkpoint)[0]["task"]
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{UPSTREAM_PREFIX}{name}": tensor for name, tensor in state.items()}


def _shortened(names: Iterable[str], shown: int = 6) -> list[str]:
    names = list(names)
    return names if len(names) <= shown else [*names[:shown], "..."]
