"""The recipe's script: refuses what it does not know, and runs from recordings to table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes" / "fsdd" / "run.sh"


def run(*arguments: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", str(SCRIPT), *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_unknown_argument() -> None:
    done = run("stepps=3")
    assert done.returncode == 2
    assert "unknown argument stepps=3; known: out= source=" in done.stderr


@pytest.mark.slow
def test_from_recordings_to_table(tmp_path: Path) -> None:
    data = os.environ.get("SPEECHSSL_DATA")
    if not data:
        pytest.skip("SPEECHSSL_DATA does not name the folder with fsdd/")
    out = tmp_path / "fsdd"
    done = run(f"out={out}", f"source={data}/fsdd", "seeds=1", "steps=20")
    assert done.returncode == 0, done.stdout + done.stderr
    table = (out / "compare" / "compare.md").read_text()
    for system in ("fbank_no_cmvn", "untrained", "pretrained", "pretrained_unseen"):
        assert system in table
    rows = [json.loads(line) for path in out.glob("bench/*/results.jsonl") for line in path.read_text().splitlines()]
    assert {(row["task"], row["view"]) for row in rows} == {
        ("ks", ""),
        ("sid", ""),
        ("ks", "ks60"),
        ("ks", "loso"),
        ("asr", "strings"),
        ("asr", "strings60"),
    }
