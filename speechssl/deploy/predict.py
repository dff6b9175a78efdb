"""`predict`: a trained task on any audio, from names of recordings to rows of answers.

Recordings are read ahead by threads, answered some at a time, those of similar length together, and written in their
own order; neither how they are batched nor how often a run was interrupted changes an answer by more than rounding.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from speechssl.deploy.answering import Answering
from speechssl.deploy.answers import AnswerFile, Lines, Standard
from speechssl.deploy.inputs import open_inputs
from speechssl.deploy.job import Job, SearchJob
from speechssl.deploy.pieces import Windows
from speechssl.deploy.search import Search
from speechssl.deploy.trained import TrainedTask, load_trained
from speechssl.deploy.voices import Voices
from speechssl.errors import UserError
from speechssl.interfaces import LayerwiseTask

logger = logging.getLogger(__name__)


def predict(
    run: str | Path,
    inputs: str | Sequence[str],
    out: str | Path | None = None,
    *,
    format: str = "jsonl",
    upstream: str | None = None,
    split: str | None = None,
    against: str | Sequence[str] | None = None,
    top: int = 5,
    threshold: float | None = None,
    windows: Windows | None = None,
    max_seconds: float = 60.0,
    device: str = "cpu",
    num_workers: int = 2,
    overwrite: bool = False,
    pipe: IO[str] | None = None,
    stream: IO[str] | None = None,
) -> dict[str, int]:
    """Answer `inputs` and write a row for each; return how many were "answered" and how many "failed".

    Args:
        run: a downstream result, see `load_trained`.
        inputs: see `open_inputs`, as `split` and `pipe`.
        out: file to write, begun where an interrupted run of the same settings was; None = `stream`.
        format: "jsonl" or "csv".
        upstream: see `load_trained`.
        against: enrolled voices for speaker verification (see `Voices`), queries for search by example (`Search`).
        top: classes, voices or queries that are named.
        threshold: see `Answering`.
        windows: how recordings are cut; None = whole.
        max_seconds: padded audio per forward pass.
        device: "cpu", "cuda", ...
        num_workers: threads that read audio.
        overwrite: replace `out`.
        stream: in the place of stdout.

    Raises:
        UserError: settings or files that cannot be used, or not one recording could be answered.
    """
    trained = load_trained(run, upstream).to(device)
    found, windows = open_inputs(inputs, split, pipe), windows or Windows()
    how = {"top": top, "threshold": threshold, "max_seconds": max_seconds}
    answering = _answering(trained, found.key, against, how)
    lines = Lines(format, answering.columns())
    settings = {"head": trained.about, "top": top, "threshold": threshold, "windows": vars(windows)}
    settings |= {"against": against if against is None or isinstance(against, str) else list(against)}
    target = Standard(lines, stream) if out is None else AnswerFile(Path(out), lines, settings, overwrite=overwrite)
    anew = target.done == (0, 0)
    try:
        made = (SearchJob if isinstance(answering, Search) else Job)(answering, target, found, windows, num_workers)
        summary = made.run()
    finally:
        target.close()
    return _told(summary, out, anew)


def _told(summary: dict[str, Any], out: str | Path | None, anew: bool) -> dict[str, int]:
    """Say how it went; raises UserError where nothing at all could be answered, in this run or one before."""
    told = f"{summary['answered']} answered, {summary['failed']} could not be"
    logger.info("%s%s", told, f"; rows: {out}" if out is not None else "")
    if anew and summary["failed"] and not summary["answered"]:
        raise UserError(f"not one of {summary['failed']} recordings could be answered; the first: {summary['reason']}")
    return {name: summary[name] for name in ("answered", "failed")}


def _answering(trained: TrainedTask, key: str, against: Any, how: dict[str, Any]) -> Answering:
    if isinstance(trained.task, LayerwiseTask):
        return Search(trained, key, against, **how)
    if against is None:
        return Answering(trained, key, **how)
    if "embedding" not in Answering(trained, key).columns():
        raise UserError(f"against= is for voices (asv) and spoken queries (qbe); task {trained.task.name} has neither")
    return Voices(trained, key, against, **how)
