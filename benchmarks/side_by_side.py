"""Times two ways of doing the same thing in one process, interleaved, and prints the ratio.

Every benchmark checks that both sides give the same result before it times them. Rounds run the sides in
rotating order, so that drift of the machine (heat, neighbours, caches) falls on all of them alike. The ratio
is the median over rounds of slower / faster within a round; its range says how far to trust it.
"""

import argparse
import datetime
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from speechssl.files import write_json

PACKAGES = ("speechssl", "torch", "torchaudio", "s3prl", "lhotse", "numpy")


def arguments(description: str, **defaults: Any) -> argparse.Namespace:
    """Parse the options that all benchmarks share; further ones are added as `name=default`."""
    options = {"seconds": 10.0, "clips": 8, "rounds": 9, "threads": 1} | defaults
    texts = {
        "seconds": "length of a clip, s",
        "clips": "clips per round",
        "rounds": "timed rounds, at least 7",
        "threads": "CPU threads",
    }
    parser = argparse.ArgumentParser(description=description)
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{texts.get(name, '')} ({default})")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the result to this file")
    given = parser.parse_args()
    if given.rounds < 7:
        parser.error("--rounds must be at least 7: a median of fewer says little")
    torch.set_num_threads(given.threads)
    return given


def peer(name: str) -> ModuleType:
    """Import a module of the other side, or end the program with one line when it is missing or broken."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, AttributeError) as error:
        print(f"skipped: {name} cannot be imported ({error})")
        sys.exit(0)


def interleave(sides: dict[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, list[float]]:
    """Return seconds per side and round; the order rotates from round to round."""
    names = list(sides)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warmup, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            sides[name]()
            elapsed = time.perf_counter() - start
            if number >= 0:
                seconds[name].append(elapsed)
    return seconds


def report(title: str, seconds: dict[str, list[float]], equality: str, given: argparse.Namespace) -> float:
    """Print and optionally write how many times faster the second side is than the first.

    Args:
        title: what was timed.
        seconds: of `interleave`; the first side is the peer, the second ours.
        equality: what was checked before, with the difference found.
        given: of `arguments`.
    """
    theirs, ours = list(seconds)[:2]
    ratios = [a / b for a, b in zip(seconds[theirs], seconds[ours], strict=True)]
    ratio = statistics.median(ratios)
    machine = environment()
    print(f"{title}\n  equal: {equality}")
    for name, values in seconds.items():
        median, low, high = (1000 * f(values) for f in (statistics.median, min, max))
        print(f"  {name:<24} {median:9.2f} ms a round  [{low:.2f}, {high:.2f}]")
    fastest = min(seconds[theirs]) / min(seconds[ours])
    spread = f"range [{min(ratios):.2f}, {max(ratios):.2f}] over {len(ratios)} rounds"
    print(f"  ratio {ratio:.2f}x, {spread}; between the fastest rounds {fastest:.2f}x")
    print(f"  {machine['cpu']}, {torch.get_num_threads()} of {machine['cpus']} threads, {machine['date']}")
    print("  " + ", ".join(f"{name} {version}" for name, version in machine["versions"].items()))
    if given.json:
        options = {name: str(value) for name, value in vars(given).items()}
        result = {"title": title, "ratio": ratio, "ratios": ratios, "seconds": seconds, "equality": equality}
        write_json(given.json, result | {"options": options, "environment": machine})
    return ratio


def environment() -> dict[str, Any]:
    """Return hardware, versions and date."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    facts = _cpu_facts()
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "cpu": facts.get("model name", platform.processor() or platform.machine()),
        "cpu_flags": sorted(flag for flag in facts.get("flags", "").split() if flag.startswith(("avx", "amx", "fma"))),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "versions": versions,
        "command": " ".join(sys.argv),
    }


def _cpu_facts() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo; nothing where there is no such file."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    lines = path.read_text().split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
