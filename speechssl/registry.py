"""Finds family and task folders by name; the only dynamic import in the project.

Names are read from the folders, nothing is imported until `family` or `task` is called for one of them.
"""

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from speechssl.errors import UserError, nearest

KINDS = ("upstream", "downstream")


def names(kind: str) -> list[str]:
    """Return the folder names of `kind` ("upstream" or "downstream"), sorted."""
    package = importlib.import_module(f"speechssl.{kind}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg)


def folder(kind: str, name: str) -> Path:
    """Return the folder of a family or task; raises UserError for an unknown name."""
    known = names(kind)
    if name not in known:
        raise UserError(f"unknown {kind} {name!r}; known: {', '.join(known)}{nearest(name, known)}")
    package = importlib.import_module(f"speechssl.{kind}")
    return next(Path(root, name) for root in package.__path__ if Path(root, name, "__init__.py").is_file())


def sizes(kind: str, name: str) -> list[str]:
    """Return the configurations of a family or task: the YAML beside its code, "pretrain*" and "demo" left out."""
    found = [path.stem for path in folder(kind, name).glob("*.yaml")]
    return sorted(size for size in found if not size.startswith("pretrain") and size != "demo")


def bundled(family: str) -> dict[str, Path]:
    """Return {size: folder with trained weights} of what the package brings of a family."""
    return {path.parent.name: path.parent for path in sorted(folder("upstream", family).glob("weights/*/config.json"))}


def summary(kind: str, name: str) -> str:
    """Return the first line of the folder's own docstring, read as text."""
    text = (folder(kind, name) / "__init__.py").read_text(encoding="utf-8")
    return text.removeprefix('"""').split("\n", 1)[0].removesuffix('"""').strip()


def module(kind: str, name: str) -> ModuleType:
    """Import a family (exports UPSTREAM, PRETRAIN_TASK, ..., or FOREIGN) or task (exports TASK)."""
    folder(kind, name)
    return importlib.import_module(f"speechssl.{kind}.{name}")


def is_foreign(family: str) -> bool:
    """Tell whether a family stands for models of another library: it exports FOREIGN instead of UPSTREAM."""
    return hasattr(module("upstream", family), "FOREIGN")


def build_upstream(family: str, config: dict[str, Any]) -> Any:
    """Build a family's model from constructor arguments and remember all of them, so that it can be exported.

    Defaults are remembered too: an exported model stays what it is when a later version changes them.
    """
    cls = module("upstream", family).UPSTREAM
    complete = _complete(cls, config, f"upstream {family}")
    upstream = cls(**complete)
    upstream.family, upstream.config = family, complete
    return upstream


def tokenizer_kinds(family: str) -> list[str]:
    """Return the kinds of tokenizers that a family has; most have none."""
    return sorted(getattr(module("upstream", family), "TOKENIZERS", {}))


def build_tokenizer(family: str, kind: str, config: dict[str, Any]) -> Any:
    """Build a family's tokenizer from constructor arguments and remember all of them, as `build_upstream` does.

    A tokenizer with an encoder takes its arguments as the dict `upstream`, and has it as the attribute `upstream`.
    """
    kinds = getattr(module("upstream", family), "TOKENIZERS", {})
    if kind not in kinds:
        known = f"; known: {', '.join(kinds)}{nearest(kind, kinds)}" if kinds else ", it has none at all"
        raise UserError(f"upstream {family} has no tokenizer {kind!r}{known}")
    complete = _complete(kinds[kind], config, f"tokenizer {kind} of {family}")
    if "upstream" in complete:
        cls = module("upstream", family).UPSTREAM
        complete["upstream"] = _complete(cls, complete["upstream"], f"upstream {family}")
    tokenizer = kinds[kind](**complete)
    tokenizer.family, tokenizer.kind, tokenizer.config = family, kind, complete
    if "upstream" in complete:
        tokenizer.upstream.family, tokenizer.upstream.config = family, complete["upstream"]
    return tokenizer


def _complete(function: Any, config: dict[str, Any], owner: str) -> dict[str, Any]:
    """Return constructor arguments with the defaults of those that are not given."""
    check_arguments(function, config, owner)
    try:
        bound = inspect.signature(function).bind(**config)
    except TypeError as error:
        raise UserError(f"{owner}: {error}") from error
    bound.apply_defaults()
    return dict(bound.arguments)


PLAIN = {  # annotations whose values can be checked: accepted types, and what people call them
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    str: ((str,), "text"),
    type(None): ((type(None),), "null"),
    Sequence[float]: ((list, tuple), "a list of numbers"),
}


def check_arguments(function: Any, given: dict[str, Any], owner: str) -> None:
    """Raise UserError for a setting the constructor does not know, naming the nearest it does, or of another type."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            known = ", ".join(parameters)
            raise UserError(f"{owner} has no setting {name!r} (known: {known}){nearest(name, parameters)}")
    for name, value in given.items():
        expected = _expected(parameters[name].annotation)
        if expected and not any(_is(value, kind) for kind in expected):
            words = " or ".join(PLAIN[kind][1] for kind in expected)
            raise UserError(f"{name} of {owner} expects {words}, found {value!r}")


def _expected(annotation: Any) -> tuple[Any, ...]:
    """Return the plain types of an annotation, () where it has others too."""
    kinds = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return kinds if all(kind in PLAIN for kind in kinds) else ()


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) and kind is not bool:
        return False
    return isinstance(value, PLAIN[kind][0]) and (kind != Sequence[float] or all(_is(one, float) for one in value))
