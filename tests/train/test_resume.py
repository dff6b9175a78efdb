"""A run that is interrupted anywhere ends with the same bits as one that is not."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from toy_training import Toy, ToyBatch, ToyStream, export, fit

from speechssl.errors import UserError
from speechssl.train import checkpoint
from speechssl.train.checkpoint import checkpoints, load_checkpoint, newest_checkpoint
from speechssl.train.logging import TIME_FIELDS, read_metrics

PROGRAM = Path(__file__).with_name("toy_training.py")


class CrashError(Exception):
    """Stands for whatever ends a process."""


class Crashing(ToyStream):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def batch(self, number: int) -> ToyBatch:
        if number == self.number:
            raise CrashError
        return super().batch(number)


def timeless(run_dir: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in TIME_FIELDS} for r in read_metrics(run_dir)]


def assert_equal(a: Any, b: Any, path: str = "") -> None:
    """Compare checkpoints to the bit, leaving out what measures time."""
    assert type(a) is type(b), path
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, path
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a.keys() - {*TIME_FIELDS, "busy", "waited", "metrics_size"}:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}[{i}]")
    else:
        assert a == b, path


def assert_same_runs(a: Path, b: Path) -> None:
    assert timeless(a) == timeless(b)
    last = newest_checkpoint(a)
    assert last is not None
    assert_equal(load_checkpoint(last)[0], load_checkpoint(b / "checkpoints" / last.name)[0])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    run_dir = tmp_path_factory.mktemp("whole")
    fit(run_dir, accumulate=2)
    return run_dir


@pytest.mark.parametrize("at", [0, 3, 9, 10, 21, 26, 39])
def test_interrupted_anywhere(at: int, whole: Path, tmp_path: Path) -> None:
    """Log windows (3), evaluations (5) and checkpoints (4) fall on different steps."""
    with pytest.raises(CrashError):
        fit(tmp_path, accumulate=2, batches=Crashing(at))
    stream = ToyStream()
    fit(tmp_path, accumulate=2, batches=stream)
    assert stream.started == [(at // 8 * 8, 1)], "does not start at the checkpoint"
    assert_same_runs(whole, tmp_path)


def test_a_finished_run_returns_at_once(tmp_path: Path) -> None:
    first, last = fit(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    task, again = fit(tmp_path, batches=Crashing(0))
    assert again == last
    assert torch.equal(task.upstream.weight, first.upstream.weight)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_on_start_runs_once(tmp_path: Path) -> None:
    starts = []
    with pytest.raises(CrashError):
        fit(tmp_path, batches=Crashing(10), on_start=lambda _: starts.append(1))
    fit(tmp_path, on_start=lambda _: starts.append(2))
    assert starts == [1]


def test_float16_resumes_with_its_loss_scale(tmp_path: Path, float16_on_cpu: None) -> None:
    options = {"precision": "auto", "save_every": 8}
    fit(tmp_path / "a", **options)
    with pytest.raises(CrashError):
        fit(tmp_path / "b", batches=Crashing(11), **options)
    fit(tmp_path / "b", **options)
    assert_same_runs(tmp_path / "a", tmp_path / "b")


def test_other_settings_are_refused(tmp_path: Path) -> None:
    fit(tmp_path, settings={"data": {"fingerprint": "a"}}, max_steps=8)
    for changes, message in (
        ({"settings": {"data": {"fingerprint": "b"}}, "max_steps": 8}, "data.fingerprint was a, is b"),
        ({"settings": {"data": {"fingerprint": "a"}}, "max_steps": 9}, "trainer.max_steps was 8, is 9"),
        ({"settings": {"data": {"fingerprint": "a"}}, "max_steps": 8, "seed": 6}, "seed was 5, is 6"),
    ):
        with pytest.raises(UserError, match=message):
            fit(tmp_path, **changes)
    fit(tmp_path, settings={"data": {"fingerprint": "a"}}, max_steps=8, log_every=7, save_every=1)


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(tmp_path / "a", keep_checkpoints=1)
    with pytest.raises(CrashError):
        fit(tmp_path / "b", batches=Crashing(14))
    assert list(checkpoints(tmp_path / "b")) == [8, 12]
    state = tmp_path / "b" / "checkpoints" / "step-00000012" / "state.pt"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(CrashError):
        fit(tmp_path / "b", batches=Crashing(9), keep_checkpoints=1)
    assert "is damaged" in caplog.text
    fit(tmp_path / "b", keep_checkpoints=1, save_every=5)
    assert_same_runs(tmp_path / "a", tmp_path / "b")


def test_only_damaged_checkpoints_are_an_error(tmp_path: Path) -> None:
    fit(tmp_path, max_steps=4)
    (tmp_path / "checkpoints/step-00000004/state.pt").write_bytes(b"")
    with pytest.raises(UserError, match="damaged"):
        fit(tmp_path, max_steps=4)


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    fit(tmp_path, max_steps=4)
    (tmp_path / "checkpoints/step-00000099").mkdir()
    (tmp_path / "checkpoints/.step-00000098.tmp").mkdir()
    newest = newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000004"


def test_metrics_are_cut_back(tmp_path: Path) -> None:
    fit(tmp_path / "a")
    with pytest.raises(CrashError):
        fit(tmp_path / "b", batches=Crashing(11))
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 11, "spl')  # a line the kill cut off
    assert read_metrics(tmp_path / "b")[-1]["step"] == 10
    fit(tmp_path / "b")
    assert timeless(tmp_path / "a") == timeless(tmp_path / "b")


def run(run_dir: Path, *arguments: str) -> int:
    done = subprocess.run([sys.executable, str(PROGRAM), str(run_dir), *arguments], check=False, capture_output=True)
    return done.returncode


def test_killed_at_random_steps(tmp_path: Path) -> None:
    """A real process, SIGKILLed several times in a row."""
    export(fit(tmp_path / "whole")[0], tmp_path / "whole")
    steps = sorted(random.Random(7).sample(range(1, 20), 2))
    for step in steps:
        assert run(tmp_path / "killed", "KILL", str(step)) == -signal.SIGKILL
    assert run(tmp_path / "killed") == 0
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert_same_runs(tmp_path / "whole", tmp_path / "killed")


def test_sigterm_saves_and_ends(tmp_path: Path) -> None:
    assert run(tmp_path / "ended", "TERM", "6") == 143
    newest = newest_checkpoint(tmp_path / "ended")
    assert newest is not None
    assert newest.name == "step-00000007", "the step in which the signal came is completed and saved"
    fit(tmp_path / "ended")
    fit(tmp_path / "whole")
    assert_same_runs(tmp_path / "whole", tmp_path / "ended")
    assert json.loads((tmp_path / "ended" / "environment.json").read_text())["command"]


def test_sigterm_that_takes_the_workers_along(tmp_path: Path) -> None:
    """The loader reports its dead workers before the step ends: what was saved is the step before."""

    class Deserted(ToyStream):
        def batch(self, number: int) -> ToyBatch:
            if number == 7:
                signal.raise_signal(signal.SIGTERM)
                raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")
            return super().batch(number)

    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path / "a", Toy(), batches=Deserted(), accumulate=2)
    assert stopped.value.code == 143
    assert max(checkpoints(tmp_path / "a")) == 3
    fit(tmp_path / "a", accumulate=2)
    fit(tmp_path / "b", accumulate=2)
    assert_same_runs(tmp_path / "a", tmp_path / "b")


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"state.pt cannot be written .*; make room"):
        checkpoint.save_checkpoint(tmp_path, 1, {}, {}, 1)
    assert checkpoint.newest_checkpoint(tmp_path) is None
    refused = SafetensorError("I/O error: No space left on device")
    monkeypatch.setattr(checkpoint, "save_file", lambda *_: (_ for _ in ()).throw(refused))
    with pytest.raises(UserError, match=r"weights cannot be written .*No space left"):
        checkpoint.write_tensors(tmp_path / "weights", {})
