"""Tokenizers by name: a published file (`beats:FILE.pt`), a run directory and one of its stages, an exported folder."""

from pathlib import Path
from typing import Any

from speechssl import registry
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.hub import check_description, load_exported, load_weights
from speechssl.interfaces import Tokenizer
from speechssl.testing import give_statistics, speech_like
from speechssl.train.checkpoint import export_tokenizer

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


def is_tokenizer(family: str, source: Path) -> bool:
    """Return whether a published file, or an exported folder (not a whole run), holds a tokenizer."""
    if source.is_dir():
        return (source / WEIGHTS).is_file() or (source / "export" / WEIGHTS).is_file()
    published = getattr(registry.module("upstream", family), "PUBLISHED", None)
    return hasattr(published, "holds_tokenizer") and published.holds_tokenizer(source)


def convert_tokenizer(family: str, source: Path, out: Path) -> tuple[Path, int]:
    """Write a published tokenizer as an exported folder, or a folder as a published file.

    Returns:
        The file with the tensors, and how many labels of some audio differ after reading it again.

    Raises:
        UserError: a tokenizer that the family publishes no layout for.
    """
    before = load_tokenizer(family, checkpoint=source)
    if source.is_dir():
        published = registry.module("upstream", family).PUBLISHED
        if before.kind not in published.TOKENIZERS_WRITTEN:
            raise UserError(f"{source} holds a {before.kind} tokenizer, which {family} publishes no file layout for")
        published.write_tokenizer(before, out)
        written = out
    else:
        written = export_tokenizer(before, out) / WEIGHTS
    waveforms = speech_like([16000, 11111])
    after = load_tokenizer(family, checkpoint=out)
    for tokenizer in (before, after):
        give_statistics(tokenizer)
    return written, int((before.tokenize(waveforms) != after.tokenize(waveforms)).sum())


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
