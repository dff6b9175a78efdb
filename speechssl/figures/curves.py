"""Loss over optimizer steps, training and dev, as a PNG that also reads in black and white."""

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


def draw_curves(records: list[dict[str, Any]], path: Path, name: str = "loss") -> bool:
    """Draw a scalar of metrics.jsonl records against the step; return whether there was anything to draw."""
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    axes = figure.add_subplot(xlabel="optimizer step", ylabel=name)
    for split, style in STYLES.items():
        points = [(r["step"], r[name]) for r in records if r["split"] == split and r.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=f"{split} (last {points[-1][1]:.4g})", **style)
    if not axes.lines:
        return False
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True
