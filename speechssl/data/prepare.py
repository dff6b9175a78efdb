"""From a corpus plan to a prepared folder: lhotse cuts over 16 kHz PCM16 WAV shards.

    OUT/{train,dev,test}.jsonl.gz      cuts, shuffled once by seed
    OUT/audio/NNNNN.wav                shards of at most 1 GB that the cuts point into
    OUT/corpus.json                    counts, licence, skipped files, fingerprint, settings; written last:
    the done mark OUT/<view>/...                     further manifests over the same audio

The work is resumed part by part (see `speechssl.data.parts`) and gives the same bytes with any number of
workers, interrupted or not.
"""

import hashlib
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

from speechssl.data.corpora import plan_of
from speechssl.data.finish import write_corpus
from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.manifest import CORPUS_FILE, FORMAT
from speechssl.data.parts import Part, make_parts, read_records
from speechssl.data.run_parts import run_parts
from speechssl.errors import UserError
from speechssl.files import read_json, write_json
from speechssl.registry import check_arguments

__all__ = ["Item", "Preparation", "View", "prepare"]
WORK_FOLDER = ".parts"
SETTINGS_FILE = "settings.json"


def prepare(
    corpus: str,
    source: str | Path | None,
    out: str | Path,
    *,
    pack: bool = True,
    workers: int | None = None,
    label_from: str | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Path:
    """Prepare a corpus and return its folder: at once if it is there already, resuming if it is half done.

    Args:
        corpus: a file of `speechssl.data.corpora`.
        source: what its plan reads: a folder, a manifest, or None.
        out: folder of the prepared corpus.
        pack: write shards; False leaves the audio where it is, and the cuts point there.
        workers: processes that read audio; None = one per CPU core where there are thousands of files. They
            are spawned, so a script has to call this under `if __name__ == "__main__"`.
        label_from: "parent" takes folder names as labels, where the corpus knows that option.
        seed: of the manifest order, and of the plan where it has a seed.
        progress: show a bar, or a line every half minute where stderr is no terminal.
        options: further options of the corpus's plan.

    Raises:
        UserError: nothing readable, unknown corpus or option, or other settings than those `out` was begun
            with.
    """
    out, plan = Path(out), plan_of(corpus)
    given = options if label_from is None else options | {"label_from": label_from}
    check_arguments(plan, {"source": source} | given, f"corpus {corpus}")
    settings = _settings(corpus, source, pack, seed, given)
    if (out / CORPUS_FILE).is_file():
        info = read_json(out / CORPUS_FILE)
        _refuse_other_settings(out, info.get("settings", {}), settings)
        shutil.rmtree(out / WORK_FOLDER, ignore_errors=True)  # where the last run was killed at its very end
        return out
    _refuse_foreign_folder(out)
    work = out / WORK_FOLDER
    if (work / SETTINGS_FILE).is_file():
        _refuse_other_settings(out, read_json(work / SETTINGS_FILE)["settings"], settings)
    preparation = _plan(plan, source, seed, given)
    _check_plan(preparation, pack)
    parts = make_parts(preparation.items)
    _begin(out, settings, preparation)
    run_parts(parts, out, work, pack=pack, workers=workers, progress=progress)
    write_corpus(out, preparation, _records(parts, work, out), settings)
    shutil.rmtree(work)
    return out


def _settings(
    corpus: str, source: str | Path | None, pack: bool, seed: int, options: dict[str, Any]
) -> dict[str, Any]:
    where = None if source is None else str(Path(source).resolve())
    settings = {"corpus": corpus, "source": where, "pack": pack, "seed": seed, "options": options}
    return json.loads(json.dumps(settings, default=str))  # as it will be read back


def _refuse_other_settings(out: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    before, now = ({**s, **s.get("options", {})} for s in (before, now))
    names = sorted((before.keys() | now.keys()) - {"options"})
    changed = [
        f"{name}={now.get(name)} (was {before.get(name)})"
        for name in names
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise UserError(
            f"{out} has other settings: {', '.join(changed)}; use those, another out=, or delete it"
        )


def _refuse_foreign_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"out={out} is a file; expected a new or empty folder")
    ours = ["audio", *(f"{split}.jsonl.gz" for split in SPLITS)]
    found = [name for name in ours if (out / name).exists()]
    if found and not (out / WORK_FOLDER).is_dir():
        raise UserError(
            f"out={out} already holds {found[0]}, which is not ours; expected a new or empty folder"
        )


def _plan(plan: Any, source: str | Path | None, seed: int, options: dict[str, Any]) -> Preparation:
    seeded = {"seed": seed} if "seed" in inspect.signature(plan).parameters else {}
    return plan(source, **seeded, **options)


def _check_plan(preparation: Preparation, pack: bool) -> None:
    items = preparation.items
    if not items:
        raise UserError(f"corpus {preparation.name}: no audio found; check source=")
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise UserError(f"corpus {preparation.name}: the id {item.id!r} occurs twice; ids must be unique")
        seen.add(item.id)
        if item.split not in (None, "", *SPLITS):
            raise UserError(
                f"corpus {preparation.name}: split {item.split!r} of {item.id}; expected one of {SPLITS}"
            )
    unpacked = None if pack else next((item for item in items if not isinstance(item.audio, str)), None)
    if unpacked is not None:
        raise UserError(f"corpus {preparation.name} is put together from several sources; it needs pack=true")
    for view in preparation.views:
        unknown = {i for ids in view.splits.values() for i in ids} - seen
        if unknown:
            raise UserError(
                f"view {view.folder} of {preparation.name} names unknown items, e.g. {min(unknown)!r}"
            )


def _begin(out: Path, settings: dict[str, Any], preparation: Preparation) -> None:
    """Write down what is being done, or see that it is what was begun; clear away torn files."""
    work, plan = out / WORK_FOLDER, _plan_digest(preparation)
    if (work / SETTINGS_FILE).is_file():
        begun = read_json(work / SETTINGS_FILE)
        if begun["plan"] != plan or begun["format"] != FORMAT:
            raise UserError(
                f"files or labels of the source changed since {out} was begun; delete it and start again"
            )
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


def _records(parts: list[Part], work: Path, out: Path) -> dict[str, dict[str, Any]]:
    """Return all records by item id; where not one is readable, undo the attempt and raise UserError."""
    records = {
        item.id: record
        for part in parts
        for item, record in zip(part.items, read_records(work, part), strict=True)
    }
    if all("skipped" in record for record in records.values()):
        shutil.rmtree(work)
        shutil.rmtree(out / "audio", ignore_errors=True)
        first = next(iter(records.values()))["skipped"]
        raise UserError(f"none of the {len(records)} audio files can be used; the first: {first}")
    return records
