"""Published checkpoints to ours and back, with a record of what was compared: `parity.json`.

What is written is read back and held against the source, hidden state by hidden state, and where the original code can
be imported (a family's ORIGINAL), that code on the published file is held against our reading. Only what agrees is put
in place: `out` appears whole, with its record, or not at all.
"""

import math
import os
from pathlib import Path
from typing import Any

from speechssl import registry
from speechssl.deploy import parity, record, staging
from speechssl.deploy.card import write_card
from speechssl.deploy.original import AGAINST, compare_original
from speechssl.errors import UserError, nearest
from speechssl.files import read_json, sha256, write_json
from speechssl.hub import export_folder, load_objective, load_upstream
from speechssl.interfaces import Upstream
from speechssl.testing import give_statistics
from speechssl.tokenizer_hub import convert_tokenizer, is_tokenizer, load_tokenizer
from speechssl.train.checkpoint import export_upstream


def convert(
    family: str, source: str | Path, out: str | Path, against: str = "auto", tolerance: float = parity.TOLERANCE
) -> dict[str, Any]:
    """Write a published file as an exported folder, or an exported folder as a published file; return the record.

    The record lies beside what it is about: `out/parity.json`, or `out` + ".parity.json" for a file.

    Args:
        family: the upstream's.
        source: a published file, or a run directory or exported folder.
        out: a folder for the first, a file for the others. What is there is replaced if it is of the same kind.
        against: "original" holds the published file against the original code too, "auto" where that can be imported,
            "none" not at all.
        tolerance: how far a hidden state may be off, relative to its largest value.

    Raises:
        UserError: wrong names or files, a difference above the tolerance, or no original code with "original".
    """
    source, out = Path(source), Path(out)
    _check(family, source, out, against, tolerance)
    with staging.staged(out) as staged:
        work = _tokenizer if is_tokenizer(family, source) else _upstream
        found = record.head(family, source, _read(source)) | work(family, source, staged, against, tolerance)
        if source.is_file():
            found["written"] = record.described(sorted(staged.glob("*.safetensors")))
            write_json(staged / record.RECORD, found)
            write_card(staged)
            staging.place_folder(staged, out)
        else:
            found["written"] = record.described([staged])
            write_json(record.record_of(out), found)
            os.replace(staged, out)
    return found


def _read(source: Path) -> list[Path]:
    """Return the files that a source consists of."""
    if source.is_file():
        return [source]
    folder = export_folder(source)
    return [folder / name for name in ("config.json", *staging.TENSORS) if (folder / name).is_file()]


def _check(family: str, source: Path, out: Path, against: str, tolerance: float) -> None:
    published = getattr(registry.module("upstream", family), "PUBLISHED", None)
    if published is None:
        raise UserError(f"upstream {family} has no published layout to convert from or to")
    if not source.exists():
        raise UserError(f"source={source} does not exist; give a published file or a run directory")
    if source.is_dir() and out.is_dir():
        raise UserError(f"out={out} is a folder; give the file to write")
    if source.is_file() and out.is_file():
        raise UserError(f"out={out} is a file; give a folder")
    if source.is_dir() and out.is_file() and out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"out={out} is a file of the source; give a place outside of {source}")
    if source.is_file() and out.is_dir() and any(out.iterdir()) and not _is_exported(out):
        raise UserError(f"out={out} holds other things than an exported model; give a new folder")
    if against not in AGAINST:
        raise UserError(f"against={against} is not one of {', '.join(AGAINST)}{nearest(str(against), AGAINST)}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < math.inf:
        raise UserError(f"tolerance={tolerance} expects a number, 0 or above")


def _is_exported(folder: Path) -> bool:
    """Tell whether a folder holds an exported model or tokenizer; other libraries call their file so, too."""
    path = folder / "config.json"
    content = read_json(path) if path.is_file() else {}
    return isinstance(content, dict) and {"format", "family"} <= content.keys()


def _upstream(family: str, source: Path, staged: Path, against: str, tolerance: float) -> dict[str, Any]:
    """Write the other form of an encoder, and return what of the record is about it."""
    before = load_upstream(family, checkpoint=source)
    task = load_objective(source, before)
    published = registry.module("upstream", family).PUBLISHED
    if source.is_file():
        training = {"converted_from": source.name, "converted_sha256": sha256(source)}
        arguments = published.read(source).task_config
        export_upstream(before, staged, task=task, task_arguments=arguments, training=training)
        held = {}
    else:
        if before.statistics_frontend() is not None:
            raise UserError(
                f"source={source} has no mean and std yet, which its published layout needs; pretrain it first"
            )
        published.write(before, staged, task)
        found = published.read(staged).config
        held = {name: value for name, value in before.config.items() if name not in found}
    after = load_upstream(family, checkpoint=staged, **held)
    states = _compare(after, before)
    parity.judge(states, "what was written", tolerance)
    original = compare_original(after, staged if source.is_dir() else source, staged, held, against)
    if "states" in original:
        parity.judge(original["states"], f"our reading, from that of {original['against']},", tolerance)
    return {
        "config": before.config,
        "left_to_the_reader": _missing(held, before, staged, tolerance),
        "tolerance": tolerance,
        "comparisons": [{"against": "the source", "states": states}, original],
    }


def _compare(after: Upstream, before: Upstream) -> list[dict[str, Any]]:
    """Return the differences of all hidden states, and of the class scores where there are any."""
    pair = [give_statistics(one) for one in (after, before)]
    states = parity.compare(*map(parity.encoder, pair))
    if getattr(before, "classifier", None) is not None:
        states.append(parity.compare(*map(parity.classifier, pair))[0] | {"state": "class scores"})
    return states


def _missing(held: dict[str, Any], before: Upstream, written: Path, tolerance: float) -> dict[str, Any]:
    """Return the settings without which a reader of the file gets another model, {} where it does not."""
    if not held:
        return {}
    try:
        plain = load_upstream(before.family, checkpoint=written)
        if parity.worst(_compare(plain, before)) <= tolerance:
            return {}
    except UserError:  # not of these sizes, or other hidden states
        return {name: value for name, value in held.items() if value is not None}
    return {name: value for name, value in held.items() if plain.config.get(name) != value}


def _tokenizer(family: str, source: Path, staged: Path, against: str, tolerance: float) -> dict[str, Any]:
    """Write the other form of a tokenizer, and return what of the record is about it."""
    different = convert_tokenizer(family, source, staged)[1]
    if different:
        raise UserError(f"{different} labels of what was written differ from the source's; nothing was written")
    if against == "original":
        raise UserError("against=original: tokenizers are not held against the original code; nothing was written")
    before, after = (load_tokenizer(family, checkpoint=one) for one in (source, staged))
    states: list[dict[str, Any]] = []
    if isinstance(getattr(before, "upstream", None), Upstream):
        states = parity.compare(*(parity.encoder(give_statistics(one.upstream)) for one in (after, before)))
        parity.judge(states, "what was written", tolerance)
    return {
        "config": {"kind": before.kind, **before.config},
        "left_to_the_reader": {},
        "tolerance": tolerance,
        "comparisons": [
            {"against": "the source", "labels_differing": different, "states": states},
            {"against": "the original code", "not_compared": "of tokenizers only what is written is read back"},
        ],
    }
