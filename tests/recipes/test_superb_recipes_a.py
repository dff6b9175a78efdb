"""Recipes of corpora that were not at hand: scripts refuse what they do not know, all their commands are valid."""

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
    "librispeech": {"pr", "asr"},
    "voxceleb1": {"sid", "asv"},
    "librimix": {"sd"},
    "quesst": {"qbe"},
    "kathbath": {"lid"},
}
VARIANTS = [
    *((recipe, ()) for recipe in TASKS),
    ("librispeech", ("pretrain=tera/base", "parts=[train-clean-100,dev-clean,test-clean]", "lexicon=[a b.txt,c.txt]")),
    ("voxceleb1", ("trim=false", "upstreams={mine: 'tera:x y.ckpt', other: fbank}", "seeds=0,1,2")),
    ("librimix", ("activity=spans", "labels=/data/with space", "upstreams=tera/tiny")),
    ("quesst", ("language=null",)),
    ("kathbath", ("languages=[hindi,tamil]", "transcripts=/data/texts")),
]


def run(recipe: str, *arguments: str, script: str = "run.sh", path: str = "") -> subprocess.CompletedProcess:
    known = f"{path or Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["bash", str(RECIPES / recipe / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PATH": known}, check=False)


@functools.cache
def composed(recipe: str, arguments: tuple[str, ...]) -> list[tuple[str, DictConfig]]:
    """Return verb and checked configuration of every command that the script would run."""
    done = run(recipe, "dry=1", f"out={OUT}", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert {words[0] for words in lines} == {"speechssl"}
    return [(words[1], configs.compose(words[1], words[2:])) for words in lines]


@pytest.mark.parametrize("script", sorted(p for recipe in TASKS for p in RECIPES.glob(f"{recipe}/*.sh")), ids=str)
def test_the_scripts_are_sound(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("recipe", "wrong", "message"),
    [
        *((recipe, "stepps=3", "unknown argument stepps=3; known: out= source=") for recipe in TASKS),
        ("voxceleb1", "trim=yes", "trim=yes is unknown; expected one of: true false"),
        ("librimix", "activity=vad", "activity=vad is unknown; expected one of: alignments spans"),
        ("quesst", "language=english", "language=english is unknown; expected one of: albanian"),
    ],
)
def test_wrong_arguments(recipe: str, wrong: str, message: str) -> None:
    done = run(recipe, "dry=1", wrong)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(("recipe", "arguments"), VARIANTS)
def test_every_command_is_valid(recipe: str, arguments: tuple[str, ...]) -> None:
    (verb, prepared), *others = composed(recipe, arguments)
    assert verb == "prepare"
    assert prepared.corpus == recipe
    check_arguments(plan_of(recipe), {"source": None} | OmegaConf.to_container(prepared.options), "corpus")
    found = set()
    for config in (config for verb, config in others if verb == "benchmark"):
        given = OmegaConf.to_container(config)
        assert read_upstreams(given["upstream"])
        tasks = read_tasks(given["tasks"], given["probe"], given["label"], given["task"])
        found |= {task.name for task in tasks}
        assert {task.size for task in tasks} == {"base"}  # SUPERB's
        assert config.data == prepared.out or Path(config.data).parent == Path(prepared.out)
        assert config.run_dir == f"{OUT}/bench"  # one table
    assert found == TASKS[recipe]
    assert not OUT.exists()  # a dry run writes nothing


def test_what_is_given_arrives() -> None:
    (_, prepared), (_, before), (_, trained), (_, after) = composed("librispeech", VARIANTS[5][1])
    assert dict(prepared.options) == {
        "parts": ["train-clean-100", "dev-clean", "test-clean"],
        "lexicon": ["a b.txt", "c.txt"],
    }
    assert list(before.upstream) == ["fbank", "fbank_no_cmvn"]
    assert (trained.data, trained.trainer.max_steps) == (prepared.out, 200000)
    assert dict(after.upstream) == {"pretrained": trained.run_dir}
    (_, prepared), (_, config) = composed("voxceleb1", VARIANTS[6][1])
    assert prepared.options.trim is False
    assert dict(config.upstream) == {"mine": "tera:x y.ckpt", "other": "fbank"}
    assert list(config.seeds) == [0, 1, 2]
    (_, prepared), _ = composed("librimix", VARIANTS[7][1])
    assert dict(prepared.options) == {"labels": "/data/with space", "activity": "spans"}
    (_, prepared), _ = composed("quesst", VARIANTS[8][1])
    assert prepared.options.language is None
    (_, prepared), *benchmarks = composed("kathbath", VARIANTS[9][1])
    assert dict(prepared.options) == {"languages": ["hindi", "tamil"], "transcripts": "/data/texts"}
    assert [Path(config.data).name for _, config in benchmarks] == ["lid", "lid_known"]


def test_kathbath_recognises_each_language_by_itself_in_its_own_letters() -> None:
    configs_of_asr = [config for _, config in composed("kathbath", ("asr=hindi tamil",))[3:]]
    assert [config.data for config in configs_of_asr] == [f"{OUT}/data/asr/{name}" for name in ("hindi", "tamil")]
    for config in configs_of_asr:
        (task,) = read_tasks(config.tasks, OmegaConf.to_container(config.probe), config.label, dict(config.task))
        assert (task.name, task.size, task.protocol) == ("asr", "base", "base+alphabet=corpus")
        assert task.arguments == {"language": None, "alphabet": "corpus"}


@pytest.mark.parametrize("recipe", TASKS)
def test_the_head_names_every_argument(recipe: str) -> None:
    script = (RECIPES / recipe / "run.sh").read_text()
    known = re.search(r'"(out= source= [^"]*)"', script)
    assert known
    head = script[: script.index("set -euo")]
    for name in known[1].split():
        assert name in head, f"{name} is missing in the head of {recipe}/run.sh"
    assert f"bash recipes/{recipe}/run.sh" in (RECIPES / recipe / "README.md").read_text()


def test_conversion_leaves_no_half_files(tmp_path: Path) -> None:
    """With a program in ffmpeg's place: it writes its arguments, and fails on one of the files."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text('#!/usr/bin/env bash\necho "$@" > "${@: -1}"\n[[ "$*" != *broken* ]]\n')
    program.chmod(0o755)
    folder = tmp_path / "a folder" / "hindi"
    folder.mkdir(parents=True)
    for name in ("1-2-f.m4a", "broken.m4a", "done.m4a", "._1-2-f.m4a"):
        (folder / name).touch()
    (folder / "done.wav").write_text("as it was")
    done = run("kathbath", str(folder.parent), "1", script="convert.sh", path=str(program.parent))
    assert done.returncode != 0  # one could not be converted
    assert "-ar 16000 -ac 1" in (folder / "1-2-f.wav").read_text()
    assert (folder / "done.wav").read_text() == "as it was"
    assert not (folder / "broken.wav").exists()
    assert len(list(folder.glob("*.wav"))) == 2
    assert run("kathbath", str(tmp_path / "nowhere"), script="convert.sh").returncode == 2
