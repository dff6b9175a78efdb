"""Reference files and the reference implementation, where they are at hand."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture(scope="session", params=["pruned", "whole"])
def tera_golden(request: pytest.FixtureRequest) -> dict:
    """Tensors made with s3prl: the pruned copy kept beside the tests, and the whole file where it is given."""
    if request.param == "pruned":
        waveforms = torch.load(FIXTURES / "tera_features.pt", weights_only=True)
        return torch.load(FIXTURES / "tera_golden.pt", weights_only=True) | waveforms
    folder = os.environ.get("SPEECHSSL_GOLDEN")
    if not folder:
        pytest.skip("SPEECHSSL_GOLDEN does not name the folder with the whole reference files")
    return torch.load(Path(folder) / "tera_tiny.pt", weights_only=True)


@pytest.fixture(scope="session")
def mockingjay() -> ModuleType:
    """Return s3prl's module with the model that TERA shares; its import needs parts torchaudio has dropped."""
    torchaudio = pytest.importorskip("torchaudio", reason="the s3prl comparison needs torchaudio", exc_type=ImportError)
    if not hasattr(torchaudio, "set_audio_backend"):
        torchaudio.set_audio_backend = lambda *_: None
    if importlib.util.find_spec("torchaudio.sox_effects") is None:
        stand_in = ModuleType("torchaudio.sox_effects")
        stand_in.apply_effects_tensor = stand_in.apply_effects_file = None
        sys.modules["torchaudio.sox_effects"] = torchaudio.sox_effects = stand_in
    return pytest.importorskip("s3prl.upstream.mockingjay.model", reason="s3prl is not installed", exc_type=ImportError)
