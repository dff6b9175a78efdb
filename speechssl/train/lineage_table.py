"""The lineage of a run as a table for people."""

from collections.abc import Sequence
from typing import Any

COLUMNS = {  # title: names of the fact, the first that is there
    "steps": ("step",),
    "loss": ("dev_loss", "loss"),
    "accuracy": ("dev_accuracy", "accuracy"),
    "1 - cos": ("dev_distance", "distance"),
    "effective rank": ("effective_rank",),
    "codes used": ("codebook.used",),
    "perplexity": ("codebook.perplexity",),
    "labels seen": ("labels_seen",),
}
NOTE = (
    "Loss, accuracy and 1 - cos on dev where there is one, else at the end of training. Codes used and perplexity over "
    "the whole corpus, of a first tokenizer over part of it."
)


def lineage_table(entries: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table with a row per stage; a column that no stage has is left out."""
    rows = [[_shown(_fact(entry["facts"], names)) for names in COLUMNS.values()] for entry in entries]
    kept = [number for number in range(len(COLUMNS)) if any(row[number] != "–" for row in rows)]
    titles = ["stage", *(list(COLUMNS)[number] for number in kept)]
    lines = [titles, ["---"] * len(titles)]
    lines += [[entry["name"], *(row[n] for n in kept)] for entry, row in zip(entries, rows, strict=True)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + f"\n\n{NOTE}\n"


def _fact(facts: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        outer, _, inner = name.partition(".")
        value = facts.get(outer, {}).get(inner) if inner else facts.get(outer)
        if value is not None:
            return value
    return None


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else f"{value:.3g}"
