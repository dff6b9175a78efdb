"""Files that are whole or absent, and checkpoints that cannot run code."""

import errno
import hashlib
import json
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from speechssl.errors import UserError

STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)  # what the user can do something about
UMASK = os.umask(0)  # of this process; it can only be asked for by setting it
os.umask(UMASK)
LEFTOVER = 3600.0  # seconds
NUMPY_FULL = "Not enough free space"  # numpy says so, and gives no number


def make_folder(path: str | Path) -> None:
    """Make a folder that can be written to; raises UserError where that is not possible."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be made a folder ({error.strerror}); choose another place") from error
    if not os.access(path, os.W_OK):
        raise UserError(f"{path} cannot be written to; choose another place, or change its permissions")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place only if the block ends without an error.

    Raises:
        UserError: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o666 & ~UMASK)  # some libraries write files that nobody else may read
        os.replace(temporary, path)
    except OSError as error:
        if is_storage(error):
            raise UserError(unwritable(path, error)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of writers that were killed: those that nothing was written to for an hour."""
    for file in Path(folder).glob(".*.tmp"):
        with suppress(FileNotFoundError):  # of a writer that lives, and has just renamed it
            if time.time() - file.stat().st_mtime > LEFTOVER:
                file.unlink()


def is_storage(error: OSError) -> bool:
    """Tell whether an error means that a disk is full or may not be written to."""
    return error.errno in STORAGE or NUMPY_FULL in str(error)


def unwritable(path: str | Path | None, error: Exception) -> str:
    """Return what to tell of a file that could not be written."""
    reason = getattr(error, "strerror", None) or error
    return (
        f"{path or 'a file'} cannot be written ({reason}); make room or choose another place, then run the same again"
    )


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
