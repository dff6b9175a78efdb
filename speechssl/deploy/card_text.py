"""Markdown of model cards: escaped text, tables, fenced code, and the front matter that the Hugging Face Hub reads."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechssl.files import sha256

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")
ADDRESS = re.compile(r"(https?://[^\s<>|\"'`\\]+)")


def escaped(value: Any) -> str:
    """Return a value as one line of text that Markdown shows as it is; addresses stay links."""
    parts = ADDRESS.split(" ".join(str(value).split()))  # every second one is an address
    return "".join(part if number % 2 else SPECIAL.sub(r"\\\1", part) for number, part in enumerate(parts))


def number(value: Any) -> str:
    """Return a measured number with four digits, a whole one with commas, and anything else as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else escaped(value)


def code(value: Any, cell: bool = True) -> str:
    """Return text in backquotes, more of them than it holds in a row; in a `cell` of a table, bars need a backslash.

    What is nothing but space is shown in quotation marks: Markdown would not show it.
    """
    text = " ".join(str(value).split()) or f'"{" " if value else ""}"'
    text = text.replace("|", "\\|") if cell else text
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    space = " " if longest else ""
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}"


def fenced(text: str, language: str = "") -> str:
    """Return text as a block of code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def command(line: str) -> str:
    """Return a command as a block of code, without the folder of its program: where that lay is nobody's business."""
    program, space, rest = line.partition(" ")
    name = "speechssl" if program.endswith("commands/main.py") else program.rpartition("/")[2]  # python -m, torchrun
    return fenced(name + space + rest, "sh") if line else ""


def files(folder: Path) -> str:
    """Return a table of the tensors and descriptions in an exported folder."""
    there = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.json"))]
    rows = [[code(file.name), number(file.stat().st_size), code(sha256(file))] for file in there]
    return table(["file", "bytes", "sha256"], rows)


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown cells, "" without rows; columns that are empty in every row are left out."""
    kept = [column for column in range(len(titles)) if any(row[column] for row in rows)]
    lines = [[titles[column] for column in kept], ["---"] * len(kept)]
    lines += [[row[column] for column in kept] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def facts(rows: Mapping[str, str | None]) -> str:
    """Return a table of names and Markdown values; what is None or empty is left out."""
    known = [[name, value] for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in known)]) if known else ""


def section(title: str, *parts: str) -> str:
    """Return a section, "" where it would be empty."""
    there = [part for part in parts if part]
    return "\n\n".join([f"## {title}", *there]) if there else ""


def document(front: Mapping[str, Any], title: str, parts: Sequence[str]) -> str:
    """Return a whole card; empty values and parts are left out."""
    lines = ["---"]
    for name, value in front.items():
        if isinstance(value, list):
            lines += [f"{name}:", *(f"  - {json.dumps(one)}" for one in value)] if value else []
        elif value:
            lines.append(f"{name}: {json.dumps(value)}")  # a JSON string is a YAML string
    return "\n\n".join(["\n".join([*lines, "---"]), f"# {title}", *(part for part in parts if part)]) + "\n"
