"""Loss and metrics over optimizer steps, training and dev, as a PNG that also reads in black and white."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from speechssl.files import atomic_path

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color): told apart with every common colour vision; the
# line styles and markers tell the curves apart without colour.
STYLES = {
    "train": {"color": "#0072B2", "linestyle": "-", "linewidth": 1.5},
    "dev": {"color": "#D55E00", "linestyle": "--", "linewidth": 1.5, "marker": "o", "markersize": 4},
}


COLUMNS = 2  # panels side by side


def draw_curves(records: list[dict[str, Any]], path: Path, names: Sequence[str] = ("loss",)) -> bool:
    """Draw scalars of metrics.jsonl records against the step, a panel each; return whether there was anything to draw.

    Args:
        records: with "step", "split" and the scalars.
        path: the PNG to write.
        names: scalars; those that no record has are left out.
    """
    lines = {name: _points(records, name) for name in names}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return False
    columns = min(COLUMNS, len(lines))
    rows = -(-len(lines) // columns)
    size = (6.4, 4.0) if len(lines) == 1 else (4.8 * columns, 3.0 * rows)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes, (name, points) in zip(panels, lines.items(), strict=False):
        for split, values in points.items():
            axes.plot(*zip(*values, strict=True), label=f"{split} (last {values[-1][1]:.4g})", **STYLES[split])
        axes.set(xlabel="optimizer step", ylabel=name)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in panels[len(lines) :]:
        axes.remove()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _points(records: list[dict[str, Any]], name: str) -> dict[str, list[tuple[int, float]]]:
    """Return {split: [(step, value), ...]} of a scalar, splits without any left out."""
    found = {
        split: [(r["step"], r[name]) for r in records if r["split"] == split and r.get(name) is not None]
        for split in STYLES
    }
    return {split: points for split, points in found.items() if points}
