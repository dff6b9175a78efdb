"""The loss curve."""

from pathlib import Path

from matplotlib.image import imread

from speechssl.figures.curves import draw_curves


def test_draws_training_and_dev(tmp_path: Path) -> None:
    records = [{"step": s, "split": "train", "loss": 1 / s} for s in range(1, 50)]
    assert draw_curves(records, tmp_path / "train.png")
    assert draw_curves([*records, {"step": 9, "split": "dev", "loss": 0.4}], tmp_path / "both.png")
    first, second = imread(tmp_path / "train.png"), imread(tmp_path / "both.png")
    assert first.shape == second.shape == (600, 960, 4)
    assert (first != second).any()


def test_every_scalar_has_a_panel(tmp_path: Path) -> None:
    records = [{"step": s, "split": "train", "loss": 1 / s, "nce": 2 / s, "accuracy": s / 50} for s in range(1, 50)]
    assert draw_curves(records, tmp_path / "three.png", ["loss", "nce", "missing", "accuracy"])
    assert draw_curves(records, tmp_path / "one.png", ["nce"])
    three, one = imread(tmp_path / "three.png"), imread(tmp_path / "one.png")
    assert three.shape == (900, 1440, 4)
    assert one.shape == (600, 960, 4)
    assert (three[460:, 760:, :3] == 1).all()  # the fourth place stays white


def test_nothing_to_draw_writes_nothing(tmp_path: Path) -> None:
    assert not draw_curves([{"step": 1, "split": "train", "loss": None}], tmp_path / "a.png")
    assert not draw_curves([], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
