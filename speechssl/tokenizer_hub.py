"""Tokenizers by name: a published file (`beats:FILE.pt`), a run directory and one of its stages, an exported folder."""

from pathlib import Path
from typing import Any

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.hub import check_description, load_exported, load_weights
from speechssl.interfaces import Tokenizer

WEIGHTS = "tokenizer.safetensors"


def load_tokenizer(
    name: str | Path, checkpoint: str | Path | None = None, stage: str | int | None = None, **overrides: Any
) -> Tokenizer:
    """Return a tokenizer that is ready to use, in `eval()` mode on the CPU.

    Args:
        name: a run directory or an exported folder, `beats:FILE` (a published checkpoint), or a family's name.
        checkpoint: a published file or a folder of the family `name`; the same as `name:checkpoint`.
        stage: of a run of several stages: the name ("tokenizer-2") or number of one that left a tokenizer; None is the
            last of them.
        overrides: constructor arguments that replace those of the checkpoint.

    Raises:
        UserError: unknown names, missing or damaged files, settings the tokenizer does not have.
    """
    family, path = _place(str(name), checkpoint)
    if not path.exists():
        raise UserError(f"{path} does not exist; expected a run directory, an exported folder or FAMILY:FILE")
    if path.is_dir():
        tokenizer = _from_folder(tokenizer_folder(path, stage), family, overrides)
    elif not family:
        raise UserError(f"{path} is a file; for a published checkpoint say FAMILY:{path}")
    else:
        tokenizer = _from_file(family, path, overrides)
    return tokenizer.eval().requires_grad_(False)


def tokenizer_folder(path: Path, stage: str | int | None = None) -> Path:
    """Return the exported folder of a tokenizer below a run directory.

    Raises:
        UserError: there is none, or not that one.
    """
    if stage is None:
        for folder in (path, path / "export", *sorted(path.glob("stages/*/export"), reverse=True)):
            if (folder / WEIGHTS).is_file():
                return folder
        raise UserError(f"{path} holds no tokenizer (expected {WEIGHTS} there, or in the export of one of its stages)")
    found = {folder.parent.parent.name: folder.parent for folder in sorted(path.glob(f"stages/*/export/{WEIGHTS}"))}
    for label, folder in found.items():
        number, _, title = label.partition("-")
        if str(stage) in (title, label) or (str(stage).isdecimal() and int(stage) == int(number)):
            return folder
    raise UserError(f"{path} has no stage {stage!r} that left a tokenizer; there are: {', '.join(found) or 'none'}")


def _place(name: str, checkpoint: str | Path | None) -> tuple[str, Path]:
    """Return the family, "" where none is named, and the file or folder."""
    if checkpoint is not None:
        registry.folder("upstream", name)  # says which families there are
        return name, Path(checkpoint)
    family, _, file = name.partition(":")
    if family not in registry.names("upstream"):
        return "", Path(name)
    if not file:
        raise UserError(f"{family} comes without a trained tokenizer; give a run directory or {family}:FILE")
    return family, Path(file)


def _from_folder(folder: Path, family: str, overrides: dict[str, Any]) -> Tokenizer:
    description = read_json(folder / "config.json")
    check_description(description, {"format", "family", "tokenizer"}, folder)
    if family and description["family"] != family:
        raise UserError(f"{folder} holds a tokenizer of {description['family']}, not of {family}")
    made = description["tokenizer"]
    state = load_exported(folder / WEIGHTS, made.get("sha256"))
    tokenizer = registry.build_tokenizer(description["family"], made["kind"], {**made["config"], **overrides})
    load_weights(tokenizer, state, folder / WEIGHTS)
    return tokenizer


def _from_file(family: str, path: Path, overrides: dict[str, Any]) -> Tokenizer:
    published = getattr(registry.module("upstream", family), "PUBLISHED", None)
    if not hasattr(published, "read_tokenizer"):
        raise UserError(f"upstream {family} has no published format of tokenizers; give a run directory")
    kind, config, state = published.read_tokenizer(path)
    tokenizer = registry.build_tokenizer(family, kind, {**config, **overrides})
    load_weights(tokenizer, state, path)
    return tokenizer
