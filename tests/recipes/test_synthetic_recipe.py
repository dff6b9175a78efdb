"""The recipe of the synthetic corpus: refuses what it does not know, and all its commands are valid."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from speechssl import configs
from speechssl.probe.plan import every_task, read_upstreams

SCRIPT = Path(__file__).parents[2] / "recipes/synthetic/run.sh"


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, env=environment, check=False)


def test_every_command_is_valid() -> None:
    done = run("dry=1", "out=/nowhere/with space", "seeds=0,1", "upstreams=mine: runs/a,")
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    verbs = {words[1]: configs.compose(words[1], words[2:]) for words in lines}
    assert list(verbs) == ["prepare", "pretrain", "benchmark"]
    assert every_task(verbs["benchmark"].tasks) == ""
    assert list(read_upstreams(dict(verbs["benchmark"].upstream))) == ["fbank_no_cmvn", "untrained", "mine", "tera"]
    assert list(verbs["benchmark"].seeds) == [0, 1]
    assert verbs["pretrain"].run_dir == "/nowhere/with space/tera"


def test_unknown_arguments_end_the_script() -> None:
    done = run("stepps=3")
    assert done.returncode == 2
    assert "unknown argument stepps=3; known: out= steps=" in done.stderr
