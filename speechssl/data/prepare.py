"""From a corpus plan to a prepared folder: lhotse cuts over 16 kHz PCM16 WAV shards.

    OUT/{train,dev,test}.jsonl.gz   cuts, shuffled once by seed
    OUT/audio/NNNNN.wav             shards of at most 1 GB that the cuts point into
    OUT/corpus.json                 counts, licence, skipped files, fingerprint, settings; the done mark
    OUT/<view>/...                  further manifests over the same audio

The work is resumed part by part (see `speechssl.data.parts`) and gives the same bytes with any number of
workers, interrupted or not.
"""

import inspect
import shutil
from pathlib import Path
from typing import Any

from speechssl.data.begin import WORK_FOLDER, begin, check_plan, is_finished, settings_of
from speechssl.data.corpora import plan_of
from speechssl.data.finish import write_corpus
from speechssl.data.items import Item, Preparation, View
from speechssl.data.lock import only_one
from speechssl.data.parts import make_parts, records_by_id
from speechssl.data.run_parts import run_parts
from speechssl.registry import check_arguments

__all__ = ["Item", "Preparation", "View", "prepare"]


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
    """Prepare a corpus in the folder `out` and return it; at once if it is there, resuming if half done.

    Args:
        corpus: a file of `speechssl.data.corpora`.
        source: what its plan reads: a folder, a manifest, or None.
        pack: write shards; False leaves the audio where it is, and the cuts point there.
        workers: processes that read audio, spawned (so guard a script with `if __name__ == "__main__"`);
            None = one per CPU core where there are thousands of files.
        label_from: "parent" takes folder names as labels, where the corpus knows that option.
        seed: of the manifest order, and of the plan where it has a seed.
        progress: show a bar, or a line every half minute where stderr is no terminal.
        options: further options of the corpus's plan.

    Raises:
        UserError: nothing readable, unknown corpus or option, other settings than `out` was begun with.
    """
    given = options if label_from is None else options | {"label_from": label_from}
    check_arguments(plan_of(corpus), {"source": source} | given, f"corpus {corpus}")
    out, settings = Path(out), settings_of(corpus, source, pack, seed, given)
    if is_finished(out, settings):
        return out
    preparation = _plan(plan_of(corpus), source, seed, given)
    check_plan(preparation, pack)
    with only_one(out / WORK_FOLDER):
        if not is_finished(out, settings):  # by another process, meanwhile
            _run(preparation, out, settings, workers, progress)
    return out


def _run(preparation: Preparation, out: Path, settings: dict[str, Any], workers: int | None, progress: bool) -> None:
    work, parts = out / WORK_FOLDER, make_parts(preparation.items)
    begin(out, settings, preparation)
    run_parts(parts, out, work, pack=settings["pack"], workers=workers, progress=progress)
    write_corpus(out, preparation, records_by_id(parts, work, out), settings)
    shutil.rmtree(work)


def _plan(plan: Any, source: str | Path | None, seed: int, options: dict[str, Any]) -> Preparation:
    seeded = {"seed": seed} if "seed" in inspect.signature(plan).parameters else {}
    return plan(source, **seeded, **options)
