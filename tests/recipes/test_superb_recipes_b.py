"""Recipes of corpora that were not at hand: scripts refuse what they do not know, all commands are valid."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from speechssl import configs
from speechssl.data.corpora import plan_of
from speechssl.probe.plan import read_tasks, read_upstreams
from speechssl.registry import check_arguments

RECIPES = Path(__file__).parents[2] / "recipes"
OUT = Path("/nowhere/with space")
TASKS = {
    "fluent_speech_commands": {"ic"},
    "iemocap": {"er"},
    "snips": {"sf"},
    "common_voice": {"lid", "asr"},
    "slue": {"sentiment", "ner"},
}
VARIANTS = [
    *((recipe, ()) for recipe in TASKS if recipe != "common_voice"),
    ("common_voice", ("asr=de fr", "languages=[de,fr,zh-CN]", "max_clips=null")),
    ("fluent_speech_commands", ("upstreams={mine: runs/a, other: fbank}", "seeds=0,1,2", "source=/data/with space")),
    ("iemocap", ("dev=session", "upstreams=tera/tiny")),
]


def run(recipe: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    script = str(RECIPES / recipe / "run.sh")
    return subprocess.run(["bash", script, *arguments], capture_output=True, text=True, env=environment, check=False)


@functools.cache
def composed(recipe: str, arguments: tuple[str, ...]) -> list[tuple[str, DictConfig]]:
    """Return verb and checked configuration of every command that the script would run."""
    done = run(recipe, "dry=1", f"out={OUT}", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in lines} == {"speechssl"}
    return [(words[1], configs.compose(words[1], words[2:])) for words in lines]


@pytest.mark.parametrize("recipe", TASKS)
def test_the_script_is_sound(recipe: str) -> None:
    checked = subprocess.run(["bash", "-n", str(RECIPES / recipe / "run.sh")], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr
    done = run(recipe, "stepps=3")
    assert done.returncode == 2
    assert "unknown argument stepps=3; known: out= source=" in done.stderr


def test_a_dev_set_that_there_is_not() -> None:
    done = run("iemocap", "dry=1", "dev=speaker")
    assert done.returncode == 2
    assert "dev=speaker is unknown; expected one of: random session" in done.stderr


@pytest.mark.parametrize(("recipe", "arguments"), VARIANTS)
def test_every_command_is_valid(recipe: str, arguments: tuple[str, ...]) -> None:
    (verb, prepared), *benchmarks = composed(recipe, arguments)
    assert verb == "prepare"
    assert prepared.corpus == recipe
    options = OmegaConf.to_container(prepared.options)
    check_arguments(plan_of(recipe), {"source": None} | options, "corpus")
    found = set()
    for verb, config in benchmarks:
        assert verb == "benchmark"
        given = OmegaConf.to_container(config)
        assert read_upstreams(given["upstream"])
        (task,) = read_tasks(given["tasks"], given["probe"], given["label"], given["task"])
        found.add(task.name)
        assert task.size == "base"  # SUPERB's
        view = Path(config.data).relative_to(prepared.out)
        assert view.parts[0] == task.name
    assert found == TASKS[recipe]
    assert {config.run_dir for _, config in benchmarks} == {f"{OUT}/bench"}  # one table
    assert not OUT.exists()  # a dry run writes nothing


def test_defaults() -> None:
    (_, prepared), (_, config) = composed("fluent_speech_commands", ())
    assert prepared.source is None
    assert list(config.upstream) == ["fbank", "fbank_no_cmvn"]
    assert list(config.seeds) == [0]
    (_, prepared), (_, config) = composed("fluent_speech_commands", VARIANTS[-2][1])
    assert prepared.source == "/data/with space"
    assert dict(config.upstream) == {"mine": "runs/a", "other": "fbank"}
    assert list(config.seeds) == [0, 1, 2]
    (_, prepared), *benchmarks = composed("common_voice", VARIANTS[-3][1])
    assert dict(prepared.options) == {"languages": ["de", "fr", "zh-CN"], "max_clips": None}
    assert [Path(config.data).name for _, config in benchmarks] == ["lid", "de", "fr"]


@pytest.mark.parametrize("recipe", TASKS)
def test_the_readme_and_the_head_name_every_argument(recipe: str) -> None:
    script = (RECIPES / recipe / "run.sh").read_text()
    known = re.search(r'read_arguments "([^"]*)"', script)
    assert known
    head = script[: script.index("set -euo")]
    for name in known[1].split():
        assert name in head, f"{name} is missing in the head of {recipe}/run.sh"
    assert f"bash recipes/{recipe}/run.sh" in (RECIPES / recipe / "README.md").read_text()
