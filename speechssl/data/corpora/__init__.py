"""One file per corpus: `plan(source, **options) -> Preparation` says what is where and reads no audio."""

import importlib
import pkgutil
from collections.abc import Callable

from speechssl.data.items import Preparation
from speechssl.errors import UserError, nearest


def names() -> list[str]:
    """Return the corpora that can be prepared, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def plan_of(corpus: str) -> Callable[..., Preparation]:
    """Return the plan function of a corpus; raises UserError for an unknown name."""
    known = names()
    if corpus not in known:
        raise UserError(f"unknown corpus {corpus!r}; known: {', '.join(known)}{nearest(corpus, known)}")
    return importlib.import_module(f"{__name__}.{corpus}").plan
