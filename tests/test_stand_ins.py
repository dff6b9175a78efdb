"""What is lent to another library is taken back, whatever happens meanwhile."""

import logging

import pytest

from speechssl.stand_ins import MISSING, quiet_log, replaced


def test_replaced() -> None:
    place = {"kept": 1, "changed": 2}
    with pytest.raises(ZeroDivisionError), replaced(place, "changed", 3), replaced(place, "new", 4):
        with replaced(place, "kept", MISSING):
            assert place == {"changed": 3, "new": 4}
        raise ZeroDivisionError
    assert place == {"kept": 1, "changed": 2}


def test_quiet_log(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("some.package")
    log.setLevel(logging.INFO)
    with quiet_log("some.package"):
        log.warning("nobody asked")
        log.error("heard")
    log.info("again")
    assert [record.message for record in caplog.records] == ["heard", "again"]
    assert log.level == logging.INFO
