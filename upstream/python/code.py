"""Encoders by the name of a Python file, or of an importable module, and of a class or function in it.

The one place of the project that runs code it was pointed to: naming a file here is like `python FILE`. As there, the
modules beside the file can be imported, and for `python:PACKAGE.MODULE:NAME` those of the working directory too.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from speechssl.errors import UserError, nearest
from speechssl.files import sha256
from speechssl.interfaces import Upstream
from speechssl.upstream.python.failures import FAILURES, LIBRARIES, told
from speechssl.upstream.python.model import Module

NAME = r"(?:(?P<file>[^:]+\.py)|(?P<module>[\w.]+)):(?P<attribute>[^\W\d]\w*)(?::(?P<rest>.+))?"
BESIDE: list[str] = []  # modules from beside the last file that was run
FORM = "expected python:FILE.py:NAME or python:PACKAGE.MODULE:NAME"


def check(name: str) -> None:
    """Raise UserError for a file or module that is not there; runs nothing of it."""
    where, _, _ = _split(name)
    with _importable(where):
        _source(where, name)


def load(name: str, **settings: Any) -> Upstream:
    """Return what the class or function NAME makes, in eval mode; what it draws at random is the same every time.

    Args:
        name: "FILE.py:NAME" or "PACKAGE.MODULE:NAME"; with ":CHECKPOINT" behind it, the setting `checkpoint`.
        settings: keyword arguments for NAME.

    Raises:
        UserError: no such file, module or name, wrong settings, code that fails, or something that is no encoder.
    """
    where, attribute, given = _split(name)
    settings |= given
    with _importable(where), _anew(where) as beside:
        source = _source(where, name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = _call(_attribute(_imported(where, source, name), attribute, name), settings, name)
            if not isinstance(made, nn.Module):
                kind = type(made).__name__
                raise UserError(f"python:{name} gives a {kind}; expected a torch.nn.Module or an Upstream")
            upstream = made.eval() if isinstance(made, Upstream) else Module(made.eval(), f"python:{name}")
    for key in ("hidden_size", "num_layers", "downsample_rate"):
        if not isinstance(getattr(upstream, key, None), int):
            raise UserError(f"python:{name} does not set {key}, which an Upstream has to (a whole number)")
    upstream.config = {
        "name": attribute,
        "code": source.name,
        "sha256": _digest([source, *beside]),
        "settings": repr(_content(settings)),
    }
    return upstream


def _split(name: str) -> tuple[str, str, dict[str, str]]:
    """Return file or module, class or function, and the setting `checkpoint` of "...:NAME:CHECKPOINT"."""
    found = re.fullmatch(NAME, name)
    if found is None:
        raise UserError(f"python:{name} does not say what to use; {FORM}")
    if found["rest"] and not Path(found["rest"]).exists():
        raise UserError(f"checkpoint {found['rest']} of python:{name} does not exist")
    return found["file"] or found["module"], found["attribute"], {"checkpoint": found["rest"]} if found["rest"] else {}


@contextmanager
def _importable(where: str) -> Iterator[None]:
    """Let the block import what lies beside a file, or in the working directory."""
    folder = str(Path(where).resolve().parent if where.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _anew(where: str) -> Iterator[list[Path]]:
    """Let the block import what lies beside a file anew, and fill a list with the files that it imported there.

    Without that, the `model.py` beside one file would be taken for the `model.py` beside another.
    """
    imported: list[Path] = []
    if not where.endswith(".py"):
        yield imported
        return
    for name in BESIDE:
        sys.modules.pop(name, None)
    BESIDE.clear()
    before = set(sys.modules)
    try:
        yield imported
    finally:
        for name in sorted(set(sys.modules) - before):
            file = _beside(name, Path(where).resolve().parent)
            if file:
                BESIDE.append(name)
                imported.append(file)


def _beside(name: str, folder: Path) -> Path | None:
    """Return the file of an imported module that lies in or below a folder, and in no library there."""
    file = getattr(sys.modules[name], "__file__", None)
    if not file or name.startswith("speechssl") or file.startswith(LIBRARIES):
        return None
    return Path(file) if Path(file).resolve().is_relative_to(folder) else None


def _digest(files: list[Path]) -> str:
    """Return a digest of the code that was run: a file's, and that of what it imports from beside it."""
    total = hashlib.sha256(files[0].read_bytes())
    for content in sorted({file.resolve(): file.read_bytes() for file in files[1:]}.items()):
        total.update(hashlib.sha256(content[1]).digest())
    return total.hexdigest()


def _content(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with what is in a checkpoint instead of where it lies."""
    file = settings.get("checkpoint")
    known = isinstance(file, str | Path) and Path(file).is_file()
    return settings | {"checkpoint": sha256(file)} if known else settings


def _source(where: str, name: str) -> Path:
    """Return the file that `where` stands for, which is not run (packages above a module are)."""
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise UserError(f"python:{name}: no file {where} here; {FORM}")
        return Path(where)
    try:
        spec = importlib.util.find_spec(where)
    except (ImportError, ValueError) as error:
        raise UserError(f"python:{name}: no module {where} can be imported ({error}); {FORM}") from error
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise UserError(f"python:{name}: no module {where} can be imported, and no code of it found; {FORM}")
    return Path(spec.origin)


def _imported(where: str, source: Path, name: str) -> ModuleType:
    """Run a file anew, under a name of its own; import a module as Python does."""
    title = f"speechssl_python_{hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:12]}"
    try:
        if not where.endswith(".py"):
            return importlib.import_module(where)
        spec = importlib.util.spec_from_file_location(title, source)
        module = importlib.util.module_from_spec(spec)
        sys.modules[title] = module  # dataclasses and pickling look modules up by name
        spec.loader.exec_module(module)
    except FAILURES as error:
        sys.modules.pop(title, None)
        raise UserError(f"python:{name}: {source} cannot be imported: {told(error)}") from error
    return module


def _attribute(module: ModuleType, attribute: str, name: str) -> Any:
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        raise UserError(f"python:{name}: no class or function {attribute} there{nearest(attribute, known)}")
    return found


def _call(function: Any, settings: dict[str, Any], name: str) -> Any:
    """Call a class or function; an nn.Module that was made already is taken as it is."""
    if isinstance(function, nn.Module):
        if settings:
            raise UserError(f"python:{name} is an object and takes no settings, found {', '.join(settings)}")
        return function
    try:
        inspect.signature(function).bind(**settings)
    except TypeError as error:
        raise UserError(f"python:{name} cannot be made of these settings: {error}") from error
    try:
        return function(**settings)
    except FAILURES as error:
        raise UserError(f"python:{name} fails: {told(error)}") from error
