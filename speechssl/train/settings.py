"""Settings that a result depends on: kept with a checkpoint, and compared before it is continued."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechssl.errors import UserError


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as they look after a round trip through JSON."""
    return json.loads(json.dumps(settings, default=str))


def check_settings(saved: dict[str, Any], current: dict[str, Any], run_dir: Path) -> None:
    """Raise UserError naming the settings in which a run differs from the checkpoint it would continue."""
    before, now = dict(_flatten(saved)), dict(_flatten(plain(current)))
    different = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    if different:
        shown = "; ".join(f"{n} was {before.get(n, 'not set')}, is {now.get(n, 'not set')}" for n in different[:5])
        more = f" and {len(different) - 5} more" if len(different) > 5 else ""
        raise UserError(
            f"{run_dir} holds a run with other settings: {shown}{more}; "
            "give the same settings to continue it, or another run_dir to start anew"
        )


def _flatten(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
