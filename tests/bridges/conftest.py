"""A run directory of every family that is learnt, made without training, and a hub on this machine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, file_download

from speechssl import hub, registry, testing
from speechssl.train.checkpoint import export_upstream

sys.path.insert(0, str(Path(__file__).parent))  # tests are no package
from local_hub import LocalHub, running


@pytest.fixture(scope="session")
def run_directories(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return {family: run directory} with the smallest configuration of each, untrained."""
    folder = tmp_path_factory.mktemp("runs")
    for family in registry.names("upstream"):
        if registry.is_foreign(family) or not hub.family_needs_weights(family):
            continue
        size = next(size for size in registry.sizes("upstream", family) if "debug" in size)
        upstream = testing.give_statistics(hub.load_upstream(f"{family}/{size}@random"))
        export_upstream(upstream, folder / family / "export", training={"step": 0})
    return {run.name: run for run in sorted(folder.iterdir())}


@pytest.fixture(scope="session")
def run_dir(run_directories: dict[str, Path]) -> Path:
    """Return one run directory, for what is the same in every family."""
    return run_directories["tera"]


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """Let huggingface_hub talk to a hub on this machine, and cache in a folder of the test."""
    with running() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, file_download):  # older versions hold it in both
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "of-nobody")
        yield server
