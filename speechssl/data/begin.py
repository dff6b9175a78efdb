"""The first step of `prepare`: see that plan and folder can be used, and write down what was begun.

A preparation is resumed, and a finished one returned, only for the settings and the plan it was begun with.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from speechssl.data.items import SPLITS, Preparation
from speechssl.data.manifest import CORPUS_FILE, FORMAT
from speechssl.errors import UserError
from speechssl.files import read_json, write_json

WORK_FOLDER = ".parts"
SETTINGS_FILE = "settings.json"


def settings_of(
    corpus: str, source: str | Path | None, pack: bool, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Return what two runs have to agree in to be the same preparation."""
    where = None if source is None else str(Path(source).resolve())
    values = {"corpus": corpus, "source": where, "pack": pack, "seed": seed, "options": options}
    return json.loads(json.dumps(values, default=str))  # as it will be read back


def is_finished(out: Path, wanted: dict[str, Any]) -> bool:
    """Tell whether `out` is prepared already; raises UserError where it was begun with other settings."""
    finished, begun = out / CORPUS_FILE, out / WORK_FOLDER / SETTINGS_FILE
    if finished.is_file():
        _refuse_other_settings(out, read_json(finished).get("settings", {}), wanted)
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # where the last run was killed at its very end
        return True
    _refuse_foreign_folder(out)
    if begun.is_file():
        _refuse_other_settings(out, read_json(begun)["settings"], wanted)
    return False


def _refuse_other_settings(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    before, now = ({**s, **s.get("options", {})} for s in (before, now))
    names = sorted((before.keys() | now.keys()) - {"options"})
    changed = [
        f"{name}={now.get(name)} (was {before.get(name)})" for name in names if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(f"{out} has other settings: {', '.join(changed)}; use those, another out=, or delete it")


def _refuse_foreign_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out} is a file; expected a new or empty folder")
    ours = ["audio", *(f"{split}.jsonl.gz" for split in SPLITS)]
    found = [name for name in ours if (out / name).exists()]
    if found and not (out / WORK_FOLDER).is_dir():
        raise UserError(f"out={out} already holds {found[0]}, which is not ours; expected a new or empty folder")


def check_plan(preparation: Preparation, pack: bool) -> None:
    """Raise UserError for a plan that cannot be carried out."""
    items = preparation.items
    if not items:
        raise UserError(f"corpus {preparation.name}: no audio found; check source=")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UserError(f"corpus {preparation.name}: the id {item.id!r} occurs twice; ids must be unique")
        seen.add(item.id)
        if item.split not in (None, "", *SPLITS):
            raise UserError(f"corpus {preparation.name}: split {item.split!r} of {item.id}; expected one of {SPLITS}")
    unpacked = None if pack else next((item for item in items if not isinstance(item.audio, str)), None)
    if unpacked is not None:
        raise UserError(f"corpus {preparation.name} is put together from several sources; it needs pack=true")
    for view in preparation.views:
        unknown = {i for ids in view.splits.values() for i in ids} - seen
        if unknown:
            raise UserError(f"view {view.folder} of {preparation.name} names unknown items, e.g. {min(unknown)!r}")


def begin(out: Path, settings: dict[str, Any], preparation: Preparation) -> None:
    """Write down what is being done, or see that it is what was begun; clear away torn files."""
    work, plan = out / WORK_FOLDER, _plan_digest(preparation)
    if (work / SETTINGS_FILE).is_file():
        begun = read_json(work / SETTINGS_FILE)
        if begun["plan"] != plan or begun["format"] != FORMAT:
            raise UserError(f"files or labels of the source changed since {out} was begun; delete it and start again")
    else:
        write_json(work / SETTINGS_FILE, {"format": FORMAT, "settings": settings, "plan": plan})
    if settings["pack"]:
        (out / "audio").mkdir(exist_ok=True)
    for folder in (out, out / "audio", work):
        for torn in folder.glob(".*.tmp"):
            torn.unlink(missing_ok=True)


def _plan_digest(preparation: Preparation) -> str:
    """Return a hash of the plan: what is read in which order, and how it is labelled."""
    state = hashlib.sha256()
    for item in preparation.items:
        audio = "a function" if callable(item.audio) else item.audio
        fields = {**vars(item), "audio": audio}
        state.update(json.dumps(fields, sort_keys=True, default=str).encode())
    views = [vars(view) for view in preparation.views]
    state.update(json.dumps([preparation.name, preparation.licence, preparation.shares, views]).encode())
    return state.hexdigest()
