"""The record of a conversion: which files it is about, what was compared, and the same for people."""

from collections.abc import Iterable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from speechssl.deploy import parity
from speechssl.files import sha256
from speechssl.version import __version__

FORMAT = 1
RECORD = "parity.json"


def record_of(out: Path) -> Path:
    """Return where the record of something converted lies."""
    return out / RECORD if out.is_dir() else out.with_name(f"{out.name}.{RECORD}")


def head(family: str, source: Path, files: Iterable[Path]) -> dict[str, Any]:
    """Return what is known before anything is converted.

    Args:
        family: the upstream's.
        source: a published file, or one of our folders.
        files: what of the source is read.
    """
    return {
        "format": FORMAT,
        "direction": "published to ours" if source.is_file() else "ours to published",
        "family": family,
        "source": described(files),
        "signals": {"seed": parity.SEED, "samples": {name: len(x) for name, x in parity.signals().items()}},
        "versions": versions(("torch",)) | {"speechssl": __version__},
    }


def described(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return name, size in bytes and sha256 of files."""
    return [{"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)} for file in files]


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Return {package: installed version}; those that were not installed but lie in the path are left out."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def table(record: dict[str, Any]) -> str:
    """Return the comparisons of a record as text, a line per hidden state."""
    lines = []
    for comparison in record["comparisons"]:
        if "not_compared" in comparison:
            lines.append(f"against {comparison['against']}: not compared: {comparison['not_compared']}")
            continue
        versions = ", ".join(f"{name} {number}" for name, number in comparison.get("versions", {}).items())
        lines.append(f"against {comparison['against']}{f' ({versions})' if versions else ''}:")
        if "labels_differing" in comparison:
            lines.append(f"  {comparison['labels_differing']} labels differ")
        if comparison["states"]:
            lines.append("         state  largest value  difference  relative")
        lines += [
            f"  {state['state']:>12}  {state['largest']:>13.4g}  {state['absolute']:>10.1e}  {state['relative']:>8.1e}"
            for state in comparison["states"]
        ]
    if record["left_to_the_reader"]:
        given = ", ".join(f"{name}={value}" for name, value in record["left_to_the_reader"].items())
        lines.append(f"the layout does not hold {given}; say so when loading it")
    return "\n".join(lines)
