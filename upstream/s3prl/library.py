"""Entries of s3prl's hub by name, with the settings that each of them takes; checkpoints that carry code are refused.

`NAME:FILE` and `ckpt=FILE` both say which checkpoint to read: for `hubert_local` and its like the one they ask for, for
an entry that would download one (`tera`, `ssast_patch_base`) a file to read instead. What is downloaded lies where
s3prl keeps it (`~/.cache/s3prl/download`).
"""

import importlib.util
import inspect
import pickle
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from speechssl.errors import UserError, nearest
from speechssl.upstream.s3prl import stand_ins
from speechssl.upstream.s3prl.model import S3prl
from speechssl.upstream.s3prl.settings import accepted

INSTALL = "install it with: pip install 'speechssl[s3prl]'"
DOWNLOAD = "_urls_to_filepaths"  # the function through which every entry of the hub fetches its files
ASKING = ("_local", "_custom", "_url")  # endings of entries that ask for a checkpoint
BROKEN = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def check(name: str) -> None:
    """Raise UserError where s3prl, the entry of its hub, or the checkpoint in `NAME:FILE` is not there."""
    entry, _, ckpt = name.partition(":")
    _require()
    with _errors(entry), stand_ins.surroundings(trust=False):
        _entry(entry)
    if ckpt:
        _check_file(entry, ckpt)


def load(name: str, trust: bool = False, **settings: Any) -> S3prl:
    """Return an upstream of s3prl's hub.

    Args:
        name: an entry, such as "fbank", or "ENTRY:FILE" with a checkpoint.
        trust: run the code that a checkpoint carries; only for files whose makers are known.
        settings: arguments of the entry; `ckpt` is the same as FILE.

    Raises:
        UserError: s3prl or a package it needs is missing, unknown entry or settings, no network, a damaged or another
            checkpoint, or one that carries code.
    """
    entry, _, ckpt = name.partition(":")
    if ckpt:
        settings["ckpt"] = ckpt
    if not isinstance(trust, bool):
        raise UserError(f"trust of s3prl:{entry} expects true or false, found {trust!r}")
    _require()
    with _errors(entry), stand_ins.surroundings(trust):
        function = _entry(entry)
        own = {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
        _check_settings(entry, function, own)
        return S3prl(_build(entry, function, own), _identity(entry, own))


def names() -> list[str]:
    """Return the entries of s3prl's hub."""
    _require()
    with _errors("hub"), stand_ins.surroundings(trust=False):
        return sorted(_entries())


def _require() -> None:
    for package in ("s3prl", "torchaudio"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"s3prl: upstreams need the package {package}, which is missing; {INSTALL}")


def _entries() -> dict[str, Callable[..., Any]]:
    """Return what the hub holds: functions of the `hubconf` files, not what those happen to import."""
    from s3prl import hub

    return {
        name: value
        for name, value in vars(hub).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__.endswith(".hubconf")
    }


def _entry(name: str) -> Callable[..., Any]:
    entries = _entries()
    if name not in entries:
        raise UserError(
            f"s3prl's hub has no entry {name!r}{nearest(name, entries)}; see "
            "https://s3prl.github.io/s3prl/tutorial/upstream_collection.html"
        )
    return entries[name]


def _check_file(entry: str, ckpt: str) -> None:
    if ckpt.startswith("http") or entry.startswith("hf_"):  # an address, or a repository
        return
    if not Path(ckpt).is_file():
        raise UserError(f"checkpoint {ckpt} of s3prl:{entry} does not exist")


def _check_settings(entry: str, function: Callable[..., Any], settings: dict[str, Any]) -> None:
    downloads = {"ckpt"} if DOWNLOAD in function.__globals__ else set()
    known = accepted(function) | downloads
    for key in settings:
        if key not in known:
            shown = ", ".join(sorted(known | {"trust"}))
            raise UserError(f"s3prl:{entry} has no setting {key!r} (known: {shown}){nearest(key, known)}")
    if "ckpt" in settings:
        _check_file(entry, str(settings["ckpt"]))
    elif entry.endswith(ASKING) and "ckpt" in accepted(function):
        raise UserError(f"s3prl:{entry} asks for a checkpoint; say s3prl:{entry}:FILE, or ckpt=FILE")


def _build(entry: str, function: Callable[..., Any], settings: dict[str, Any]) -> Any:
    if "ckpt" not in settings or entry.endswith(ASKING):
        return function(**settings)
    given, others = str(settings["ckpt"]), {key: value for key, value in settings.items() if key != "ckpt"}
    used: list[str] = []

    def instead(*addresses: str, **options: Any) -> str:
        used.extend(addresses)
        if len(used) > 1:
            raise UserError(f"s3prl:{entry} reads several files, {given} cannot stand for them; leave it out")
        return given

    with stand_ins.replaced(function.__globals__, DOWNLOAD, instead):
        expert = function(**others)
    if not used:
        raise UserError(f"s3prl:{entry} reads no checkpoint; leave {given} out")
    return expert


def _identity(entry: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what, with the tensors, tells which model it is: settings, with names of files instead of their paths."""
    named = {
        key: Path(value).name if isinstance(value, str) and Path(value).exists() else value
        for key, value in settings.items()
        if key != "refresh"
    }
    return {"name": entry, "s3prl": metadata.version("s3prl"), **named}


@contextmanager
def _errors(entry: str) -> Iterator[None]:
    """Turn what s3prl raises for a missing package, network or file into one line."""
    try:
        yield
    except UserError:
        raise
    except (ImportError, SystemExit) as error:  # some upstreams end the process where a package is missing
        cause = error if isinstance(error, ImportError) else error.__context__
        needed = getattr(cause, "name", None) or _line(cause or error)
        raise UserError(
            f"s3prl:{entry} needs {needed}, which is missing or does not work and which s3prl does not bring; install "
            "the version that s3prl's documentation names"
        ) from error
    except pickle.UnpicklingError as error:
        found = next((line.strip() for line in str(error).splitlines() if "GLOBAL" in line), "")
        if not found:
            raise UserError(f"the checkpoint of s3prl:{entry} is not readable (damaged, or another format)") from error
        raise UserError(
            f"the checkpoint of s3prl:{entry} carries code and was refused, nothing was run "
            f"({found.split('.  ')[0]}); trust=true runs it, for a file whose makers you know"
        ) from error
    except OSError as error:
        raise UserError(
            f"s3prl:{entry} cannot be fetched or read ({_line(error)}); it downloads its files on first use, "
            f"without a network say s3prl:{entry}:FILE"
        ) from error
    except BROKEN as error:
        raise UserError(
            f"s3prl:{entry} cannot be made from these settings or this checkpoint ({type(error).__name__}: "
            f"{_line(error)}); is the file of this kind and undamaged?"
        ) from error


def _line(error: BaseException) -> str:
    return textwrap.shorten(str(error) or type(error).__name__, 200, placeholder=" ...")
