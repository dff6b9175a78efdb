"""Two processes under torchrun equal one process with twice the accumulation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from toy_training import compare

from speechssl.train.logging import TIME_FIELDS, read_metrics
from speechssl.train.seeding import derived_seed

PROGRAM = Path(__file__).with_name("toy_training.py")


def test_two_ranks_equal_one_with_the_same_batches(tmp_path: Path) -> None:
    """With dropout, with empty batches on one rank and on both, and with dev and logs averaged over ranks."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir(), one.mkdir()
    done = subprocess.run([*launch, str(PROGRAM), str(two), "RANKS"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(two / f"end-{rank}").read_text() for rank in (0, 1)] == ["False", "False"]  # else it may abort at its end
    compare(one, accumulate=2)
    found, expected = (torch.load(folder / "states.pt", weights_only=True) for folder in (two, one))
    for kind in ("gradient", "trained"):
        for name, tensor in expected[kind].items():
            torch.testing.assert_close(found[kind][name], tensor, rtol=1e-5, atol=1e-6, msg=f"{kind} {name}")
    for a, b in zip(read_metrics(two / "run"), read_metrics(one / "run"), strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {*TIME_FIELDS, "split"}:
            assert a[name] == pytest.approx(b[name], rel=1e-5), name
    lost = [json.loads(line)["id"] for line in (two / "run" / "unreadable.jsonl").read_text().splitlines()]
    assert sorted(lost) == ["lost-2", "lost-7", "lost-8", "lost-9"]
    compare(two, accumulate=2)  # one process takes over what two have finished


def test_seeds_differ_in_every_argument() -> None:
    seeds = {derived_seed(*key) for key in ((0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), (-1,))}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(3, 4) == derived_seed(3, 4)
