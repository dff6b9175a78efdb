"""Which settings an entry of s3prl's hub really takes.

Its functions pass `**kwargs` on from one to the next, overwrite some on the way, and the last one drops what it does
not know: a misspelt setting is never noticed. So their source is read: the arguments that can be named, of the function
and of every function or class that it hands its keywords to, without those it sets itself.
"""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any


def accepted(function: Callable[..., Any]) -> set[str]:
    """Return the names of the settings that reach something in `function` or in what it passes its keywords to."""
    return _accepted(function, set())


def _accepted(function: Any, seen: set[Any]) -> set[str]:
    if function in seen:
        return set()
    seen.add(function)
    if inspect.isclass(function):
        return set(_named(function.__init__)) - {"self"}
    parameters = inspect.signature(function).parameters.values()
    keywords = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
    return set(_named(function)).union(
        *(_accepted(target, seen) - given for target, given in _calls(function, keywords))
    )


def _named(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _calls(function: Callable[..., Any], keywords: str | None) -> list[tuple[Any, set[str]]]:
    """Return what a function hands its keywords to, with the arguments it decides itself there."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    decided = {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) and isinstance(node.slice, ast.Constant)
    }
    calls = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _passes(node, keywords):
            target = function.__globals__.get(node.func.id)
            given = {keyword.arg for keyword in node.keywords if keyword.arg}
            if callable(target):
                calls.append((target, decided | given | _taken(target, node)))
    return calls


def _passes(call: ast.Call, keywords: str | None) -> bool:
    return any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == keywords for k in call.keywords)


def _taken(target: Any, call: ast.Call) -> set[str]:
    """Return the arguments that a call fills by position."""
    named = _named(target.__init__)[1:] if inspect.isclass(target) else _named(target)
    return set(named[: sum(not isinstance(argument, ast.Starred) for argument in call.args)])
