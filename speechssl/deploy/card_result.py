"""The card of a benchmark's result: a task's head on frozen features, or a model fine-tuned for it."""

import re
from pathlib import Path
from typing import Any

from speechssl import registry
from speechssl.deploy.card_rows import NOTE, rows_table
from speechssl.deploy.card_text import code, command, document, escaped, facts, fenced, files, number, section, table
from speechssl.deploy.trained import export_of
from speechssl.errors import UserError
from speechssl.files import read_json
from speechssl.probe.rows import RESULTS, read_lines

MANY = 50  # outputs beyond which their names are not listed
ABOVE = 4  # folders between the results of a benchmark and a run directory in it, at most


def result_card(run: Path, licence: str | None = None) -> tuple[Path, str]:
    """Return the exported folder of a result, and its card.

    Raises:
        UserError: no result there, or its row is in no results.jsonl above it.
    """
    folder = export_of(run)
    row = _row(folder)
    whole = (folder / "head.json").is_file()
    about = read_json(folder / ("head.json" if whole else "config.json"))
    task = row["task"]
    summary = registry.summary("downstream", task) if task in registry.names("downstream") else task
    kind = "A fine-tuned model" if whole else "A head on frozen features"
    parts = [
        f"{escaped(summary.rstrip('.'))}. {kind}, made with speechssl {escaped(row['versions']['speechssl'])}.",
        section("The model", _what(row, about, whole), _classes(about), _layers(row)),
        section("How to use it", *_use(whole)),
        section("Result", rows_table([row]), NOTE, _metrics(row), _groups(row)),
        section("Training", command(row["command"]), _training(row)),
        section("Limits", _limits(row, whole)),
        section("Files", files(folder)),
    ]
    front = {"library_name": "speechssl", "license": licence, "tags": ["speechssl", "audio", task]}
    return folder, document(front, f"{escaped(task)} on {escaped(row['upstream'])}", parts)


def _row(folder: Path) -> dict[str, Any]:
    """Return the row of an exported folder."""
    place = folder.resolve().parent if folder.resolve().name == "export" else folder.resolve()
    settings = place / "settings.json"
    own = read_json(settings)["settings"] if settings.is_file() else None
    for above in list(place.parents)[:ABOVE]:
        if not (above / RESULTS).is_file():
            continue
        rows = read_lines(above / RESULTS)
        run = place.relative_to(above).as_posix()
        for row in rows:
            if row.get("run", run) == run and row["settings"] == own:
                return row
    raise UserError(f"{folder} has no row in a {RESULTS} above it; a card needs its numbers, copy that file along")


def _what(row: dict[str, Any], about: dict[str, Any], whole: bool) -> str:
    corpus = "/".join(filter(None, (row["corpus"], row["view"], row["fold"])))
    size = None if whole else row.get("layer_weights") and str(len(row["layer_weights"]))
    return facts(
        {
            "task": code(row["config"]["task"]),
            "upstream": code(named(row["config"]["upstream"])),
            "upstream\\_sha256": code(row["upstream_sha256"]),
            "upstream's part": "trained along, in this folder" if whole else "frozen, not in this folder",
            "hidden states read": size,
            "corpus": f"{escaped(corpus)}, fingerprint {code(row['corpus_fingerprint'])}",
            "outputs": number(len(about["classes"])) if about.get("classes") else None,
        }
    )


def named(upstream: str) -> str:
    """Return a name for `load_upstream` without the folders of somebody's disk."""
    return re.sub(r"(^|:)/[^:]*/", r"\1", upstream)


def _classes(about: dict[str, Any]) -> str:
    classes = about.get("classes") or []
    if not classes or len(classes) > MANY:
        return ""
    return f"Outputs, in their order: {', '.join(code(name, cell=False) for name in classes)}."


def _layers(row: dict[str, Any]) -> str:
    weights = row.get("layer_weights") or []
    if len(weights) < 2:
        return ""
    lines = [[str(layer), f"{weight:.3f}"] for layer, weight in enumerate(weights)]
    return f"Weights of the hidden states in their learned mix:\n\n{table(['hidden state', 'weight'], lines)}"


def _use(whole: bool) -> list[str]:
    shell = fenced("speechssl predict run=FOLDER inputs=recording.wav", "sh")
    python = 'import speechssl\n\nupstream = speechssl.load_upstream("FOLDER")  # the fine-tuned encoder'
    return [shell, fenced(python, "python")] if whole else [shell]


def _metrics(row: dict[str, Any]) -> str:
    others = {name: value for name, value in row["metrics"].items() if name != row["main_metric"]}
    return table(["metric", "value"], [[escaped(name), number(value)] for name, value in others.items()])


def _groups(row: dict[str, Any]) -> str:
    """Show the best and the worst of each kind of groups."""
    lines = [
        [
            escaped(name),
            _group(row["groups"][name], gap["best"]),
            _group(row["groups"][name], gap["worst"]),
            number(float(gap["difference"])),
        ]
        for name, gap in row.get("gaps", {}).items()
    ]
    return table([f"{escaped(row['main_metric'])} by", "best", "worst", "difference"], lines)


def _group(values: dict[str, float], name: str) -> str:
    return f"{escaped(name)}: {number(float(values[name]))}"


def _training(row: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
    grid = ", ".join(f"{lr} ({number(float(dev))})" for lr, dev in row.get("grid", {}).items() if dev is not None)
    utterances = ", ".join(f"{split} {number(count)}" for split, count in row["utterances"].items())
    return facts(
        {
            "learning rate": number(row["lr"]) if row.get("lr") is not None else None,
            "rates tried (dev)": grid,
            "step": f"{number(row['best_step'])} of {number(row['steps'])}" if row.get("steps") else None,
            "on dev": number(row["dev"]) if row.get("dev") is not None else None,
            "utterances": utterances,
            "time": f"{row['seconds']:.0f} s" if "seconds" in row else None,
            "software": escaped(versions),
            "commit": code(row["commit"]) if row.get("commit") else None,
        }
    )


def _limits(row: dict[str, Any], whole: bool) -> str:
    lines = []
    if not whole:
        lines.append("The head is of no use without the upstream whose digest is given above.")
    if row.get("above_chance") is False:
        lines.append("The result is not above chance.")
    lines.append("It was tested on the corpus above; on other speakers, rooms and sounds it may do worse.")
    return "\n".join(f"- {line}" for line in lines)
