"""Files that are whole or absent, and checkpoints that cannot run code."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechssl.errors import UserError


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only if the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write pretty JSON atomically; NaN and infinity are refused, because other readers refuse them too."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); it is damaged or not what it should be") from error


def sha256(path: str | Path) -> str:
    """Return the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Return a 16-character fingerprint of a JSON-like value, independent of key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def load_torch(path: str | Path, allowed: list[Callable | tuple[Callable, str]] | None = None) -> Any:
    """Load a `torch.save` file without executing code from it.

    Args:
        path: the file.
        allowed: classes (or (stand-in, dotted name)) the safe unpickler may build besides tensors and containers.

    Raises:
        UserError: missing, corrupt, or holding anything that is not allowed; the message names it.
    """
    import torch

    if not Path(path).is_file():
        raise UserError(f"checkpoint {path} does not exist")
    try:
        with torch.serialization.safe_globals(allowed or []):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "")
        if found:
            raise UserError(
                f"{path} carries code and was refused, nothing was run ({found.split('.  ')[0]})"
            ) from error
        raise UserError(f"{path} is not a readable checkpoint (damaged, or another format)") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(
            f"{path} is not a readable checkpoint ({type(error).__name__}: damaged or another format)"
        ) from error


def load_safetensors(path: str | Path) -> dict:
    """Load a state dict from a safetensors file.

    Raises:
        UserError: missing or corrupt.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(path).is_file():
        raise UserError(f"weights {path} do not exist")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error
