"""The card command writes where it is told to, and says so."""

from pathlib import Path

import pytest

from speechssl.commands import main as cli
from speechssl.hub import load_upstream
from speechssl.train.checkpoint import export_upstream


def test_the_card_is_written_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "export")
    cli.main(["card", f"run={tmp_path}", "licence=cc-by-4.0"])
    assert capsys.readouterr().out == f"wrote {tmp_path / 'export' / 'README.md'}\n"
    assert 'license: "cc-by-4.0"' in (tmp_path / "export" / "README.md").read_text()
    cli.main(["card", f"run={tmp_path}", f"out={tmp_path / 'card.md'}"])
    assert "license" not in (tmp_path / "card.md").read_text()


def test_wrong_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_upstream(load_upstream("tera/debug@random"), tmp_path / "export")
    for keys, expected in (
        ([f"run={tmp_path / 'nothing'}"], "holds no exported model"),
        ([f"run={tmp_path}", f"results=[{tmp_path / 'nothing.jsonl'}]"], "does not exist"),
        ([f"run={tmp_path}", "result=[x]"], "nearest: 'results'"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main(["card", *keys])
        assert stopped.value.code == 2
        assert expected in capsys.readouterr().err
