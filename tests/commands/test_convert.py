"""The convert command: what it prints, and what is left when it fails."""

from pathlib import Path

import pytest

from speechssl.commands import main as cli
from speechssl.hub import load_upstream
from speechssl.train.checkpoint import export_upstream


def test_differences_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "export")
    cli.main(["convert", "family=tera", f"source={tmp_path / 'export'}", f"out={tmp_path / 'a.ckpt'}", "against=none"])
    out = capsys.readouterr().out
    assert "against the source:" in out
    assert sum(line.split()[0].isdigit() for line in out.splitlines() if line.startswith("  ")) == 3
    assert "not compared: against=none" in out
    assert "wrote a.ckpt" in out
    assert (tmp_path / "a.ckpt.parity.json").is_file()


def test_failure_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "export"
    export_upstream(load_upstream("ssast/patch_debug@random", target_frames=100, pad_before_norm=False), folder)
    command = ["convert", "family=ssast", f"source={folder}", f"out={tmp_path / 'a.pth'}"]
    with pytest.raises(SystemExit) as stopped:
        cli.main([*command, "against=original"])
    assert stopped.value.code == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert [
        line for line in errors if line.startswith("speechssl: error: against=original: s3prl/upstream/ssast has 12")
    ]
    with pytest.raises(SystemExit):
        cli.main([*command, "tolerance=-1"])
    assert "tolerance=-1 expects a number, 0 or above" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
