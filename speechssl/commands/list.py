"""Upstreams, tasks and corpora, one line each.

Reads the folders' own text; imports no family and no torch. `what=upstreams|tasks|corpora` shows one kind.
"""

import re
from pathlib import Path

from speechssl import registry
from speechssl.errors import UserError, nearest


def run_plain(arguments: list[str]) -> None:
    """Print the list; `what=` chooses one kind."""
    sections = {"upstreams": upstreams, "tasks": tasks, "corpora": corpora}
    wanted = list(sections)
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key != "what" or value not in sections:
            raise UserError(f"list takes what={'|'.join(sections)}, found {argument!r}{nearest(value, sections)}")
        wanted = [value]
    for kind in wanted:
        print(f"{kind}:")
        for name, text in sections[kind]():
            print(f"  {name:<22} {text}")
        if kind == "upstreams":
            print("  * trained weights come with the package")


def upstreams() -> list[tuple[str, str]]:
    rows = []
    for family in registry.names("upstream"):
        bundled = registry.bundled(family)
        sizes = ", ".join(f"{size}{'*' * (size in bundled)}" for size in registry.sizes("upstream", family))
        rows.append((family, registry.summary("upstream", family) + (f" [{sizes}]" if sizes else "")))
    return rows


def tasks() -> list[tuple[str, str]]:
    return [(task, registry.summary("downstream", task)) for task in registry.names("downstream")]


def corpora() -> list[tuple[str, str]]:
    folder = Path(__file__).parents[1] / "data" / "corpora"
    rows = []
    for path in sorted(folder.glob("[!_]*.py")):
        first = re.match(r'"""(.*?)(?:"""|\n)', path.read_text(encoding="utf-8"))
        rows.append((path.stem, first[1] if first else ""))
    return rows
