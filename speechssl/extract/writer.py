"""Hidden states on disk: shards that are whole or absent, one index, resumed at the shard.

`OUT/shards/00000.safetensors` (one tensor per utterance id), or `OUT/npy/00000/<id>.npy` where `format=npy`.
`OUT/index.jsonl` has a line per utterance: id, file, frames, shape; `OUT/extract.json` is written last and says how the
features were made.
"""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from safetensors.torch import save_file

from speechssl.errors import UserError
from speechssl.extract.encode import Encoded
from speechssl.files import atomic_path, read_json, write_json, write_text

FORMATS = ("safetensors", "npy")


def check_settings(out: Path, settings: dict[str, Any]) -> bool:
    """Return True if `out` is finished with the same settings; remember the settings of a new one.

    Raises:
        UserError: `out` was begun with other settings.
    """
    begun = out / "settings.json"
    if begun.is_file():
        before = read_json(begun)
        different = [name for name in settings if before.get(name) != settings[name]]
        if different:
            name = different[0]
            raise UserError(
                f"{out} was begun with {name}={before.get(name)!r}, now {name}={settings[name]!r}; "
                "choose another out= or the same settings"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and was not made by extract; choose another out=")
    else:
        write_json(begun, settings)
    return (out / "extract.json").is_file()


def write_shard(out: Path, number: int, form: str, encoded: Iterable[Encoded]) -> list[dict[str, Any]]:
    """Write one shard and its part of the index; return the index rows (reason instead of a file where unreadable)."""
    save = _save_npy if form == "npy" else _save_safetensors
    items = list(encoded)
    name = save(out, number, [item for item in items if item.features is not None])
    rows = [_row(item, name, form) for item in items]
    write_text(out / "parts" / f"{number:05d}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def read_part(out: Path, number: int) -> list[dict[str, Any]] | None:
    """Return the index rows of a finished shard, or None where it still has to be made."""
    path = out / "parts" / f"{number:05d}.jsonl"
    if not path.is_file():
        return None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def finish(out: Path, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Write the index over all shards, then the summary that marks the folder as finished."""
    write_text(out / "index.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_json(out / "extract.json", summary)
    shutil.rmtree(out / "parts", ignore_errors=True)


def savers() -> dict[str, Callable]:
    """Return the writers by format name."""
    return {"safetensors": _save_safetensors, "npy": _save_npy}


def _save_safetensors(out: Path, number: int, items: list[Encoded]) -> str:
    name = f"shards/{number:05d}.safetensors"
    with atomic_path(out / name) as temporary:
        save_file({item.id: item.features for item in items}, temporary)
    return name


def _save_npy(out: Path, number: int, items: list[Encoded]) -> str:
    name = f"npy/{number:05d}"
    temporary = out / "npy" / f".{number:05d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for item in items:
        np.save(temporary / _file_name(item.id), item.features.numpy())
    shutil.rmtree(out / name, ignore_errors=True)
    temporary.rename(out / name)
    return name


def _file_name(utterance: str) -> str:
    return quote(utterance, safe=" ") + ".npy"


def _row(item: Encoded, name: str, form: str) -> dict[str, Any]:
    if item.features is None:
        return {"id": item.id, "reason": item.reason}
    file = f"{name}/{_file_name(item.id)}" if form == "npy" else name
    return {"id": item.id, "file": file, "frames": item.num_frames, "shape": list(item.features.shape)}
