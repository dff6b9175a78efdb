"""Names that a library asks others for and that these have given up, lent for as long as a block lasts.

s3prl 0.4.18 needs some of torchaudio to be imported at all. Both sides of that door use them: the family that reads
its upstreams, and the bridge that carries ours into its runner.
"""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

MISSING = object()


@contextlib.contextmanager
def replaced(place: Any, key: str, value: Any) -> Iterator[None]:
    """Let a mapping have another value, or with MISSING none, within the block."""
    before = place.get(key, MISSING)
    _put(place, key, value)
    try:
        yield
    finally:
        _put(place, key, before)


@contextlib.contextmanager
def torchaudio_names(effects: Mapping[str, Callable[..., Any]] | None = None) -> Iterator[None]:
    """Give torchaudio what it lacks of its old names (`set_audio_backend`, `sox_effects`), and take it away again.

    Args:
        effects: functions of `torchaudio.sox_effects`; those that are not given raise RuntimeError when called.
    """
    import torchaudio

    module = ModuleType("torchaudio.sox_effects")
    vars(module).update(dict.fromkeys(("apply_effects_tensor", "apply_effects_file"), _no_effects))
    vars(module).update(effects or {})
    lacking = {"set_audio_backend": lambda backend: None, "sox_effects": module}
    lacking = {name: value for name, value in lacking.items() if not hasattr(torchaudio, name)}
    with contextlib.ExitStack() as stack:
        for name, value in lacking.items():
            stack.enter_context(replaced(vars(torchaudio), name, value))
        if "sox_effects" in lacking:
            stack.enter_context(replaced(sys.modules, module.__name__, module))
        yield


@contextlib.contextmanager
def quiet_log(name: str) -> Iterator[None]:
    """Leave only errors of a package in the log: every import of s3prl's hub warns of packages nobody asked for."""
    log = logging.getLogger(name)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _put(place: Any, key: str, value: Any) -> None:
    if value is MISSING:
        place.pop(key, None)
    else:
        place[key] = value


def _no_effects(*arguments: Any, **settings: Any) -> None:
    raise RuntimeError("this torchaudio has no sox effects any more, and s3prl asks for one")
