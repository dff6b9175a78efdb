"""Spectrograms below each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from speechssl.figures.spectrograms import draw_spectrograms


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep the figures that are saved, to look at their axes."""
    figures = []
    save = Figure.savefig

    def savefig(self: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(self)
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


def arrays() -> dict[str, np.ndarray]:
    clean = np.random.default_rng(0).standard_normal((2, 50, 20)).astype(np.float32)
    return {"clean": clean, "altered": clean * 0, "lengths": np.array([50, 30])}


def test_axes_are_in_seconds_and_hertz(tmp_path: Path, drawn: list[Figure]) -> None:
    known = {"frame_seconds": np.array(0.01), "hertz": np.linspace(50, 7000, 20)}
    assert draw_spectrograms(arrays() | known, tmp_path / "a.png", utterance=1)
    clean, altered = drawn[0].axes[:2]
    assert clean.get_title(loc="left") == "clean"
    assert clean.get_ylabel() == "frequency / Hz"
    assert [label.get_text() for label in clean.get_yticklabels()] == [
        "125",
        "250",
        "500",
        "1000",
        "2000",
        "4000",
    ]
    assert altered.get_xlabel() == "time / s"
    assert altered.get_xlim() == (0.0, pytest.approx(0.3)), "padding is not drawn"
    assert clean.images[0].get_clim() == altered.images[0].get_clim(), "panels share one scale"
    assert imread(tmp_path / "a.png").shape[2] == 4


def test_without_units_axes_count(tmp_path: Path, drawn: list[Figure]) -> None:
    assert draw_spectrograms(arrays(), tmp_path / "a.png")
    assert drawn[0].axes[1].get_xlabel() == "frame"
    assert drawn[0].axes[0].get_ylabel() == "mel channel"


def test_nothing_to_draw_writes_nothing(tmp_path: Path) -> None:
    assert not draw_spectrograms({"lengths": np.array([1])}, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
