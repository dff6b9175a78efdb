"""Lets the tests of this folder import their toy objective, which subprocesses run as a program as well."""

import sys
from pathlib import Path

import pytest
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def float16_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the loop run in float16 with a loss scaler on the CPU, where Fabric itself would refuse."""

    def start(*_: object) -> Fabric:
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])
        fabric.launch()
        return fabric

    monkeypatch.setattr("speechssl.train.ranks.start_fabric", start)
