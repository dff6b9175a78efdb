"""Reference files and the reference implementation, where they are at hand."""

import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session", params=["pruned", "whole"])
def tera_golden(request: pytest.FixtureRequest) -> dict:
    """Tensors made with s3prl: the pruned copy beside the tests, and the whole file where it is given."""
    if request.param == "pruned":
        waveforms = torch.load(FIXTURES / "tera_features.pt", weights_only=True)
        return torch.load(FIXTURES / "tera_golden.pt", weights_only=True) | waveforms
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    return torch.load(Path(folder) / "tera_tiny.pt", weights_only=True)


@pytest.fixture(scope="session")
def mockingjay() -> ModuleType:
    """Return s3prl's module with the model that TERA shares."""
    return pytest.importorskip(
        "s3prl.upstream.mockingjay.model", reason="s3prl cannot be imported", exc_type=ImportError
    )


@pytest.fixture(scope="session", params=["patch", "frame"])
def ssast_golden(request: pytest.FixtureRequest) -> dict:
    """Weights, inputs and outputs of a small model, made with the authors' code."""
    return torch.load(FIXTURES / f"ssast_{request.param}.pt", weights_only=True)
