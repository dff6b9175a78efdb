"""The recipe of BEATs' iterations: its script refuses what it does not know, and all its commands are valid."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from speechssl import configs, registry
from speechssl.data.corpora import plan_of
from speechssl.registry import check_arguments

FOLDER = Path(__file__).parents[2] / "recipes" / "esc10_fsdd"
OUT = Path("/nowhere/with space")
VARIANTS = ["", "iterations=1 steps=10", "kmeans=1 iterations=2 tokenizer_steps=5 source=/data/esc10 fsdd=/data/fsdd"]


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = str(FOLDER / "run.sh")
    return subprocess.run(["bash", script, *arguments], capture_output=True, text=True, env=environment, check=False)


@functools.cache
def composed(arguments: str) -> list[tuple[str, DictConfig]]:
    """Return verb and checked configuration of every command that the script would run."""
    done = run("dry=1", f"out={OUT}", "seeds=1 2", *arguments.split())
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in lines} == {"speechssl"}
    return [(words[1], configs.compose(words[1], words[2:])) for words in lines]


def of(verb: str, arguments: str) -> list[DictConfig]:
    return [config for name, config in composed(arguments) if name == verb]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("stepps=3", "unknown argument stepps=3; known: out= source="),
        ("iterations=0", "iterations=0 is unknown; expected one of: 1 2 3"),
        ("kmeans=yes", "kmeans=yes is unknown; expected one of: 0 1"),
    ],
)
def test_wrong_arguments(wrong: str, message: str) -> None:
    done = run("dry=1", wrong)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("arguments", VARIANTS)
def test_every_command_is_valid(arguments: str) -> None:
    for prepared in of("prepare", arguments):
        check_arguments(plan_of(prepared.corpus), {"source": None} | dict(prepared.options), "corpus")
    family = registry.module("upstream", "beats")
    for config in of("pretrain", arguments):
        check_arguments(family.UPSTREAM, configs.arguments(config.upstream), "upstream")
        check_arguments(family.STAGES, configs.arguments(config.task), "task")
    assert not OUT.exists()  # a dry run writes nothing


@pytest.mark.parametrize("arguments", VARIANTS)
def test_the_parts_fit_together(arguments: str) -> None:
    given = dict(pair.split("=") for pair in arguments.split())
    iterations, kmeans = int(given.get("iterations", 3)), given.get("kmeans") == "1"
    prepared = [config.out for config in of("prepare", arguments)]
    trained = {Path(config.run_dir): config for config in of("pretrain", arguments)}
    assert len(trained) == (6 if kmeans else 4)  # two seeds
    for folder, config in trained.items():
        untrained = folder.name.startswith("untrained")
        assert list(config.data) == prepared
        assert config.iterations == (1 if untrained else iterations)
        assert (config.trainer.max_steps == 0) == untrained
        assert (config.task.get("tokenizer") == "kmeans") == folder.name.startswith("kmeans")
    benchmarks = of("benchmark", arguments)
    assert len(benchmarks) == 2 * 6 * (2 if kmeans else 1)
    labels = {label for config in benchmarks for label in config.upstream}
    names = ["iteration", "kmeans"] if kmeans else ["iteration"]
    numbered = {f"{name}{number}" for name in names for number in range(1, iterations + 1)}
    assert labels == {"fbank_no_cmvn", "untrained"} | numbered
    for config in benchmarks:
        assert any(config.data.startswith(folder) for folder in prepared)
        for label, model in config.upstream.items():
            if label in numbered:
                encoder = Path(model)
                assert encoder.name == f"*-encoder-{label[-1]}"
                assert trained[encoder.parents[1]].seed == config.seeds[0]
            elif label == "untrained":
                assert trained[Path(model)].seed == config.seeds[0]
    (compared,) = of("compare", arguments)
    assert sorted(compared.runs) == sorted({config.run_dir for config in benchmarks})
    assert set(compared.baseline) <= labels


def test_a_missing_iteration_ends_the_script(tmp_path: Path) -> None:
    script = (FOLDER / "run.sh").read_text()
    functions = script[script.index("encoder() {") : script.index("# benchmarks PREFIX")]
    (tmp_path / "pretrained-1" / "stages" / "02-encoder-1").mkdir(parents=True)
    for iterations, code in ((1, 0), (2, 1)):
        head = f"set -euo pipefail\nout={tmp_path} dry=0 iterations={iterations}\n{functions}"
        line = f'{head}\nfound=$(systems 1 pretrained iteration)\necho "$found"'
        done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
        assert done.returncode == code
    assert "pretrained-1 has no encoder 2" in done.stderr
    assert done.stdout == ""


def test_the_readme_names_every_argument() -> None:
    script, readme = (FOLDER / "run.sh").read_text(), (FOLDER / "README.md").read_text()
    known = re.search(r'read_arguments "([^"]*)"', script)
    assert known
    head = script[: script.index("set -euo")]
    for name in known[1].split():
        assert name in head, f"{name} is missing in the head of run.sh"
        assert f"[{name}" in readme, f"{name} is missing in the README"


@pytest.mark.slow
def test_from_recordings_to_table(tmp_path: Path) -> None:
    data = os.environ.get("SPEECHSSL_DATA")
    if not data:
        pytest.skip("SPEECHSSL_DATA does not name the folder with esc10/ and fsdd/")
    out = tmp_path / "run"
    folders = [f"source={data}/esc10", f"fsdd={data}/fsdd"]
    done = run(f"out={out}", *folders, "seeds=1", "iterations=2", "steps=4", "tokenizer_steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    table = (out / "compare" / "compare.md").read_text()
    for system in ("fbank_no_cmvn", "untrained", "iteration1", "iteration2"):
        assert system in table
    for row in ("aec ACC ↑ (esc10/folds, debug)", "debug+mean_std+standardize", "ks ACC ↑", "sid ACC ↑"):
        assert row in table
