"""Recipes too large to run here: their scripts refuse what they do not know, and all their commands are valid."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from speechssl import configs
from speechssl.data.corpora import plan_of
from speechssl.registry import check_arguments

RECIPES = Path(__file__).parents[2] / "recipes"
OUT = Path("/nowhere/with space")
NAMES = ("audioset", "esc10", "esc50", "speech_commands")
VARIANTS = [
    ("audioset", ""),
    ("audioset", "lists=full size=frame_base model=ssast:x.pth"),
    ("audioset", "unbalanced=false labels_file=enhanced.json steps=10 seconds=20"),
    ("esc10", ""),
    ("esc10", "size=frame_tiny also=/data/fsdd steps=10 epochs=2"),
    ("esc50", ""),
    ("esc50", "size=frame_small source=/data/esc50"),
    ("speech_commands", ""),
    ("speech_commands", "version=1 size=frame_tiny"),
    ("speech_commands", "size=patch_base"),
    ("speech_commands", "version=1 size=patch_tiny model=runs/elsewhere"),
]


def run(recipe: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = str(RECIPES / recipe / "run.sh")
    return subprocess.run(["bash", script, *arguments], capture_output=True, text=True, env=environment, check=False)


@functools.cache
def composed(recipe: str, arguments: str) -> list[tuple[str, DictConfig]]:
    """Return verb and checked configuration of every command that the script would run."""
    done = run(recipe, "dry=1", f"out={OUT}", "seeds=1", *arguments.split())
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in lines} == {"speechssl"}
    return [(words[1], configs.compose(words[1], words[2:])) for words in lines]


@pytest.mark.parametrize("recipe", NAMES)
def test_unknown_arguments(recipe: str) -> None:
    done = run(recipe, "stepps=3")
    assert done.returncode == 2
    assert "unknown argument stepps=3; known: out= source=" in done.stderr
    done = run(recipe, "dry=1", "size=patch_huge")
    assert done.returncode == 2
    assert "size=patch_huge is unknown; expected one of: patch_tiny" in done.stderr


@pytest.mark.parametrize(("recipe", "arguments"), VARIANTS)
def test_every_command_is_valid(recipe: str, arguments: str) -> None:
    verbs = [verb for verb, _ in composed(recipe, arguments)]
    assert verbs[0] == "prepare"
    assert verbs[-1] == "compare"
    assert {"pretrain", "benchmark"} <= set(verbs)
    prepared = composed(recipe, arguments)[0][1]
    check_arguments(plan_of(prepared.corpus), {"source": None} | dict(prepared.options), "corpus")
    assert not OUT.exists()  # a dry run writes nothing


@pytest.mark.parametrize(("recipe", "arguments"), VARIANTS)
def test_the_parts_fit_together(recipe: str, arguments: str) -> None:
    (prepared,) = (config.out for verb, config in composed(recipe, arguments) if verb == "prepare")
    trained = {config.run_dir for verb, config in composed(recipe, arguments) if verb == "pretrain"}
    benchmarks = [config for verb, config in composed(recipe, arguments) if verb == "benchmark"]
    for config in benchmarks:
        assert config.data.startswith(f"{prepared}/")
        models = set(dict(config.upstream).values()) - {"fbank_no_cmvn"}
        assert {model for model in models if str(OUT) in model} <= trained
        assert 1 <= len(models) <= 2
    assert trained  # nothing is pretrained in vain, and untrained and pretrained models both are measured
    assert len({name for config in benchmarks for name in dict(config.upstream)} - {"fbank_no_cmvn"}) == 2
    (compared,) = (config for verb, config in composed(recipe, arguments) if verb == "compare")
    assert list(compared.runs) == [config.run_dir for config in benchmarks]
    assert len(set(compared.runs)) == len(benchmarks)
    assert {config.finetune for config in benchmarks} == {False, True}


@pytest.mark.parametrize(("recipe", "arguments"), [one for one in VARIANTS if one[0] != "esc10"])
def test_strides_fit_the_variant(recipe: str, arguments: str) -> None:
    frame = "frame" in arguments or (recipe == "speech_commands" and "patch" not in arguments)
    for verb, config in composed(recipe, arguments):
        if verb == "benchmark" and config.finetune:
            settings = config.settings
            assert (settings.frequency_stride, settings.time_stride) == ((128, 1) if frame else (10, 10))


@pytest.mark.parametrize("recipe", NAMES)
def test_the_readme_names_every_argument(recipe: str) -> None:
    script = (RECIPES / recipe / "run.sh").read_text()
    known = re.search(r'read_arguments "([^"]*)"', script)
    assert known
    head = script[: script.index("set -euo")]
    for name in known[1].replace("\\\n", "").split():
        assert name in head, f"{name} is missing in the head of {recipe}/run.sh"
    readme = (RECIPES / recipe / "README.md").read_text()
    assert f"bash recipes/{recipe}/run.sh" in readme
