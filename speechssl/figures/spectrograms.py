"""Spectrograms of one utterance below each other, such as clean, altered and reconstructed, as a PNG."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechssl.files import atomic_path

COLOURS = "cividis"  # lightness rises evenly: reads with any colour vision, and on a printer without colours
PERCENTILES = (1, 99)  # of the first panel, limits of the colour scale that all panels share
TICKS_HZ = (125, 250, 500, 1000, 2000, 4000, 8000)


def draw_spectrograms(arrays: dict[str, np.ndarray], path: Path, utterance: int = 0) -> bool:
    """Draw every (N, T, F) array of a snapshot for one utterance; return whether there was any.

    Args:
        arrays: panels in this order, and optionally "lengths" (N,) valid frames, "frame_seconds" () from
            frame to frame, and "hertz" (F,) centre of each channel; without the last two, axes count frames
            and channels.
        path: the PNG to write.
        utterance: which of the N.
    """
    panels = {name: array[utterance] for name, array in arrays.items() if array.ndim == 3}
    if not panels:
        return False
    first = next(iter(panels.values()))
    frames = int(arrays["lengths"][utterance]) if "lengths" in arrays else first.shape[0]
    step = float(arrays["frame_seconds"]) if "frame_seconds" in arrays else 0.0
    low, high = np.percentile(first[:frames], PERCENTILES)
    figure = Figure(figsize=(7.0, 1.2 + 1.7 * len(panels)), dpi=150, layout="constrained")
    rows: list[Any] = list(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0])
    for axes, (name, panel) in zip(rows, panels.items(), strict=True):
        image = axes.imshow(
            panel[:frames].T,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            cmap=COLOURS,
            vmin=low,
            vmax=high,
            extent=(0.0, frames * (step or 1.0), -0.5, panel.shape[1] - 0.5),
        )
        axes.set_title(name, loc="left", fontsize=10)
        _label_channels(axes, arrays.get("hertz"), panel.shape[1])
    rows[-1].set_xlabel("time / s" if step else "frame")
    figure.colorbar(image, ax=rows, label="feature value", shrink=0.8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return True


def _label_channels(axes: Axes, hertz: np.ndarray | None, channels: int) -> None:
    """Put ticks at round frequencies where the centres of the channels are known."""
    if hertz is None or len(hertz) != channels:
        axes.set_ylabel("mel channel")
        return
    ticks = [tick for tick in TICKS_HZ if hertz[0] <= tick <= hertz[-1]]
    axes.set_yticks(np.interp(ticks, hertz, np.arange(channels)), [str(tick) for tick in ticks])
    axes.set_ylabel("frequency / Hz")
