"""Runs the parts of a preparation, in this process or in a pool of spawned ones."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from pickle import PicklingError

from speechssl.data.lock import share
from speechssl.data.parts import Part, PartSummary, record_path, run_part
from speechssl.data.progress import ProgressLine
from speechssl.errors import UserError

MAX_WORKERS = 16  # unless asked for: more would mostly wait for the disk
MANY_PARTS = 8


def run_parts(parts: list[Part], out: Path, work: Path, *, pack: bool, workers: int | None, progress: bool) -> None:
    """Run all parts that have no records yet. The result does not depend on the number of workers."""
    waiting = [part for part in parts if not record_path(work, part.number).is_file()]
    total = sum(len(part.items) for part in parts)
    done = total - sum(len(part.items) for part in waiting)
    if workers is None:
        workers = _num_cores() if len(waiting) >= MANY_PARTS else 1
    remote = [part for part in waiting if workers > 1 and _travels(part)]
    remote = remote if len(remote) > 1 else []  # starting processes takes longer than one part
    away = {part.number for part in remote}
    with ProgressLine("preparing", total, done, enabled=progress) as line:
        _run_pool(remote, out, work, pack, workers, line)
        for part in waiting:
            if part.number not in away:
                _count(line, run_part(part, out, work, pack))


def _num_cores() -> int:
    """Return the CPU cores this process may use, as far as they help."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def _count(line: ProgressLine, summary: PartSummary) -> None:
    line.advance(summary.num_items, summary.seconds)


def _run_pool(parts: list[Part], out: Path, work: Path, pack: bool, workers: int, line: ProgressLine) -> None:
    if not parts:
        return
    pool = ProcessPoolExecutor(
        min(workers, len(parts)),
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(work,),
    )
    try:
        for future in as_completed([pool.submit(run_part, part, out, work, pack) for part in parts]):
            _count(line, future.result())
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died (out of memory, or a script without `if __name__ == '__main__'`); "
            "start it again with fewer workers: finished parts are kept"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(work: Path) -> None:
    """Hold the folder, and leave when the main process is killed: workers would wait for work for ever."""
    share(work)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _travels(part: Part) -> bool:
    """Tell whether a part can be sent to another process; functions defined inside functions cannot."""
    functions = [item.audio for item in part.items if callable(item.audio)]
    try:
        ForkingPickler.dumps(functions)
    except (PicklingError, AttributeError, TypeError):
        return False
    return True
