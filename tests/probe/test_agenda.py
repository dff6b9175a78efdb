import logging

import pytest

from speechssl.probe import agenda


def test_rows_that_were_there_do_not_count_in_the_estimate(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 0.0, 0.0, 30.0, 30.0, 120.0])
    monkeypatch.setattr(agenda.time, "monotonic", lambda: next(clock))
    caplog.set_level(logging.INFO, logger="speechssl")
    plan = agenda.Agenda(4)
    with plan.item("ks", done=True):
        pass
    next(clock)
    with plan.item("ks", done=False):
        pass
    assert "row 2 of 4: 30 s so far, about 60 s left" in caplog.text
    with plan.item("asr", done=False):
        pass
    assert "row 3 of 4: 2 min so far, about 60 s left" in caplog.text


def test_durations() -> None:
    assert [agenda.duration(s) for s in (40, 200, 7500)] == ["40 s", "3 min", "2 h 5 min"]
