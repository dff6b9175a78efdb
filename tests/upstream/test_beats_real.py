"""Three iterations on real recordings as one command, killed in the middle of every stage."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechssl.data.prepare import prepare
from speechssl.train.logging import read_metrics
from speechssl.train.stages import read_lineage

STEPS = 16
TRAINED = ("encoder-1", "tokenizer-2", "encoder-2", "tokenizer-3", "encoder-3")
UNTRAINED = ("tokenizer-1", "labels-2", "labels-3")


def outputs(run_dir: Path) -> dict[str, bytes]:
    files = [*run_dir.glob("stages/*/export/*.safetensors"), *run_dir.glob("stages/*/labels/*/*")]
    return {str(path.relative_to(run_dir)): path.read_bytes() for path in files}


def kill_in(stage: str, program: list[str], run_dir: Path) -> bool:
    """Start the command, wait until the stage is under way, and kill it; return whether the stage was unfinished."""
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, bufsize=1)
    for line in process.stderr:
        if line.startswith("stage ") and line.rstrip().endswith(f": {stage}"):
            break
    folder = next(iter(run_dir.glob(f"stages/*-{stage}")), run_dir / "none")
    while stage in TRAINED and process.poll() is None and len(read_metrics(folder)) < STEPS // 2:
        folder = next(iter(run_dir.glob(f"stages/*-{stage}")), folder)
        time.sleep(0.01)
    if stage in UNTRAINED:
        time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return not list(run_dir.glob(f"stages/*-{stage}/stage.json"))


@pytest.mark.slow
def test_killed_in_every_stage_on_real_recordings(tmp_path: Path) -> None:
    source = os.environ.get("SPEECHSSL_DATA")
    if not source:
        pytest.skip("SPEECHSSL_DATA does not name the folder with the real recordings")
    for name in ("esc10", "fsdd"):
        prepare(name, Path(source) / name, tmp_path / name, progress=False)
    program = [sys.executable, "-m", "speechssl.commands.main", "pretrain", "upstream=beats/tiny", "iterations=3"]
    program += [f"data=[{tmp_path / 'esc10'},{tmp_path / 'fsdd'}]", "upstream.mean=null", "upstream.std=null"]
    program += ["task.num_codes=64", "task.code_size=16", "task.predictor_layers=1", "task.estimator_layers=1"]
    program += [
        "task.initial_vectors=2000",
        f"trainer.max_steps={STEPS}",
        "trainer.save_every=4",
        "trainer.log_every=1",
    ]
    program += ["trainer.max_seconds=16", "trainer.crop_seconds=1.945", "trainer.eval_every=0"]
    program += ["trainer.num_workers=0", "trainer.num_threads=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*program, f"run_dir={whole}"], check=True)
    names = [entry["name"] for entry in read_lineage(whole)]
    assert sorted(names) == sorted(TRAINED + UNTRAINED)
    for name in names:
        assert kill_in(name, [*program, f"run_dir={killed}"], killed), f"{name} was too fast to be killed"
    subprocess.run([*program, f"run_dir={killed}"], check=True)
    assert outputs(killed) == outputs(whole)
    assert [e["sha256"] for e in read_lineage(killed)] == [e["sha256"] for e in read_lineage(whole)]
