"""The package as users get it: a wheel, installed away from the checkout, brings all code, settings and weights."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUNDLED = ("tera/tiny", "ssast/patch_tiny", "beats/tiny")
USE = """
import sys
from pathlib import Path
import torch, speechssl
home = Path(sys.argv[1])
assert home in Path(speechssl.__file__).parents, speechssl.__file__
waveforms = [torch.sin(torch.arange(16000) * 0.05) * 0.3, torch.sin(torch.arange(24000) * 0.2) * 0.1]
for name in sys.argv[2:]:
    trained, untrained = speechssl.load_upstream(name), speechssl.load_upstream(name + "@random")
    assert home in Path(sys.modules[type(trained).__module__].__file__).parents
    states = trained(waveforms).hidden_states
    assert all(torch.isfinite(state).all() for state in states)
    assert trained.state_dict().keys() == untrained.state_dict().keys()
    print(name, sum(parameter.numel() for parameter in trained.parameters()))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source") / "speechssl", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for name in ("speechssl", "upstream", "downstream"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", out, source]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return next(out.glob("speechssl-*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel was unpacked to, which is first on the path of `run`."""
    home = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    return home


def run(home: Path, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_everything_that_is_read_at_run_time_is_in_the_wheel(wheel: Path) -> None:
    places = {"speechssl": "speechssl", "upstream": "speechssl/upstream", "downstream": "speechssl/downstream"}
    expected = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in places.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(expected - set(archive.namelist())) == []


def test_weights_that_come_with_the_package_load_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    lines = run(installed, "-c", USE, str(installed), *BUNDLED, cwd=tmp_path).splitlines()
    assert [line.split()[0] for line in lines] == list(BUNDLED)


def test_the_list_names_what_is_bundled(installed: Path, tmp_path: Path) -> None:
    text = run(installed, "-m", "speechssl.commands.main", "list", cwd=tmp_path)
    assert "tiny*" in text
    assert "patch_tiny*" in text


@pytest.mark.slow
def test_the_demo_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    run(installed, "-m", "speechssl.commands.main", "demo", "out=demo", "minutes=0.2", cwd=tmp_path)
    assert (tmp_path / "demo" / "results.md").is_file()
