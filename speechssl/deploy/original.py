"""What was written, held against the original code on the published file, where that code can be imported."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechssl import registry
from speechssl.deploy import parity
from speechssl.deploy.record import versions
from speechssl.errors import UserError
from speechssl.hub import load_upstream
from speechssl.interfaces import Upstream

AGAINST = ("none", "auto", "original")


def compare_original(
    ours: Upstream, published: Path, written: Path, held: dict[str, Any], against: str
) -> dict[str, Any]:
    """Hold what was written against the original code on the published file, if that can be done."""
    original = getattr(registry.module("upstream", ours.family), "ORIGINAL", None)
    about = {"against": "the original code" if original is None else original.CODE}
    if against == "none":
        return about | {"not_compared": "against=none"}
    if original is None:
        reason = f"the family {ours.family} names no original code"
        if against == "original":
            raise UserError(f"against=original: {reason}; nothing was written")
        return about | {"not_compared": reason}
    with quiet():
        try:
            settings = original.settings(ours.config)
            reference = original.load(published, ours.config, load_upstream)
        except UserError as error:
            if against == "original":
                raise UserError(f"against=original: {error}; nothing was written") from error
            return about | {"not_compared": str(error)}
        same = load_upstream(ours.family, checkpoint=written, **(held | settings))
        states = parity.compare(parity.encoder(same), reference, original.FIRST)
    return about | {"versions": versions(original.PACKAGES), "settings": settings, "states": states}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let the code of others print, log and warn to nobody."""
    level = logging.root.manager.disable
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
