import pytest

from speechssl.data import progress
from speechssl.data.progress import ProgressLine


def advance(enabled: bool = True) -> None:
    with ProgressLine("preparing", total=100, done=20, enabled=enabled) as line:
        line.advance(40, 7200.0)


def test_silent_for_half_a_minute_without_a_terminal(capsys: pytest.CaptureFixture) -> None:
    advance()
    assert capsys.readouterr() == ("", "")


def test_then_one_line_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    advance()
    out, error = capsys.readouterr()
    assert out == ""
    assert "preparing: 60/100" in error
    assert "2.00 h of audio" in " ".join(error.split())
    assert "s left" in " ".join(error.split())


def test_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.0)
    advance(enabled=False)
    assert capsys.readouterr() == ("", "")
