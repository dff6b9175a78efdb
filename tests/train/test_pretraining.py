"""The pretrain command on a small corpus: what it leaves behind, killing it, starting from other weights."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import speechssl
from speechssl import registry
from speechssl.commands.main import dispatch
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.files import sha256
from speechssl.train.checkpoint import checkpoints
from speechssl.train.logging import read_metrics

COMMON = ["pretrain", "upstream=tera/debug", "upstream.dropout=0.1", "upstream.normalization=corpus"]
COMMON += ["trainer.max_steps=12", "trainer.save_every=2", "trainer.log_every=1", "trainer.eval_every=6"]
COMMON += [
    "trainer.max_seconds=4",
    "trainer.crop_seconds=0.8",
    "trainer.num_threads=1",
    "trainer.num_workers=1",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two minutes' worth of tones in noise, a few files of it broken."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for i in range(60):
        samples = random.integers(8000, 20000)
        time = np.arange(samples) / 16000
        tone = np.sin(2 * np.pi * random.uniform(100, 3000) * time) * random.uniform(0.05, 0.3)
        path = root / "audio" / f"speaker{i % 4}" / f"{i:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone + 0.01 * random.standard_normal(samples), 16000)
    prepare("folder", root / "audio", root / "prepared")
    return root / "prepared"


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    dispatch([*COMMON, f"data={corpus}", f"run_dir={run_dir}"])
    return run_dir


def test_a_run_leaves_everything_behind(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    expected = {"config.yaml", "metrics.jsonl", "tensorboard", "snapshots", "checkpoints", "export"}
    assert names >= expected | {"environment.json", "curve.png"}
    description = json.loads((trained / "export" / "config.json").read_text())
    assert description["family"] == "tera"
    assert description["weights_sha256"] == sha256(trained / "export" / "model.safetensors")
    assert description["training"]["step"] == 12
    assert {"loss", "dev_loss", "fingerprint"} <= description["training"].keys()
    arrays = np.load(trained / "snapshots" / "step-00000012.npz")
    assert arrays["clean"].shape == arrays["altered"].shape == arrays["reconstructed"].shape
    assert float(arrays["frame_seconds"]) == 0.01


def test_the_export_is_the_trained_upstream(trained: Path) -> None:
    upstream = speechssl.load_upstream(str(trained))
    state = torch.load(trained / "checkpoints/step-00000012/state.pt", weights_only=True)["task"]
    for name, tensor in upstream.state_dict().items():
        assert torch.equal(tensor, state[f"upstream.{name}"]), name
    assert upstream.statistics_frontend() is None, "the corpus statistics travel with the weights"
    assert upstream([torch.randn(16000)]).hidden_states[0].shape[1] == 101


def test_killed_command_ends_with_the_same_model(corpus: Path, trained: Path, tmp_path: Path) -> None:
    """SIGKILL at random moments, worker processes and all; then the same command to the end."""
    command = [
        sys.executable,
        "-m",
        "speechssl.commands.main",
        *COMMON,
        f"data={corpus}",
        f"run_dir={tmp_path}",
    ]
    draw = random.Random(3)
    for least in (draw.randint(1, 4), draw.randint(6, 10)):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and sum(r["split"] == "train" for r in read_metrics(tmp_path)) < least:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    reached = max(checkpoints(tmp_path), default=0)
    dispatch(command[3:])
    assert reached < 12, "the process was too fast to be killed"
    ours, whole = tmp_path / "export" / "model.safetensors", trained / "export" / "model.safetensors"
    assert ours.read_bytes() == whole.read_bytes()


def test_no_steps_export_the_control(corpus: Path, tmp_path: Path) -> None:
    dispatch([*COMMON, f"data={corpus}", f"run_dir={tmp_path / 'a'}", "trainer.max_steps=0"])
    untrained = speechssl.load_upstream(str(tmp_path / "a"))
    dispatch([*COMMON, f"data={corpus}", f"run_dir={tmp_path / 'b'}", "trainer.max_steps=0", "seed=1"])
    other = speechssl.load_upstream(str(tmp_path / "b"))
    assert untrained.statistics_frontend() is None
    assert not torch.equal(untrained.input_projection.weight, other.input_projection.weight)


def test_init_from_a_run_takes_model_and_head(
    corpus: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    common = [*COMMON, f"data={corpus}", "trainer.max_steps=0", "seed=9"]
    for source in (trained, trained / "export"):
        run_dir = tmp_path / source.name
        dispatch([*common, f"run_dir={run_dir}", f"init_from={source}"])
        for name in ("model", "pretraining"):
            found, expected = (path / "export" / f"{name}.safetensors" for path in (run_dir, trained))
            assert found.read_bytes() == expected.read_bytes()
    total = caplog.text.partition("took ")[2].split()
    assert total[0] == total[2], "everything was there"


def test_init_from_an_unfinished_run(corpus: Path, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "checkpoints").symlink_to(trained / "checkpoints")
    common = [*COMMON, f"data={corpus}", "trainer.max_steps=0", "seed=9"]
    dispatch([*common, f"run_dir={tmp_path / 'a'}", f"init_from={tmp_path / 'cut'}"])
    weights = [path / "export" / "model.safetensors" for path in (tmp_path / "a", trained)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_init_from_a_published_file_and_another_size(
    corpus: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    source = speechssl.load_upstream("tera/debug@random5")
    registry.module("upstream", "tera").PUBLISHED.write(source, tmp_path / "states.ckpt")
    common = [*COMMON, f"data={corpus}", "trainer.max_steps=0", f"init_from=tera:{tmp_path / 'states.ckpt'}"]
    dispatch([*common, f"run_dir={tmp_path / 'a'}"])
    loaded = speechssl.load_upstream(str(tmp_path / "a"))
    torch.testing.assert_close(loaded.input_projection.weight, source.input_projection.weight)
    assert "head.dense.weight" in caplog.text.partition("not in it, left as initialised")[2]
    dispatch([*common, f"run_dir={tmp_path / 'b'}", "upstream.num_layers=3"])
    assert "layers.2." in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere", "expected a run directory"),
        ("fbank:x", "family fbank"),
        ("tera:nowhere.ckpt", "does not exist"),
    ],
)
def test_init_from_nothing_useful(source: str, message: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        dispatch([*COMMON, f"data={corpus}", f"run_dir={tmp_path}", f"init_from={source}"])


def test_another_corpus_is_refused(corpus: Path, trained: Path, tmp_path: Path) -> None:
    prepare("folder", corpus.parent / "audio" / "speaker1", tmp_path / "other")
    with pytest.raises(UserError, match=r"data.fingerprint was"):
        dispatch([*COMMON, f"data={tmp_path / 'other'}", f"run_dir={trained}"])


def test_audio_too_short_for_a_patch_is_one_clear_line(corpus: Path, tmp_path: Path) -> None:
    common = ["pretrain", "upstream=ssast/debug", "trainer.max_steps=1", "trainer.num_workers=0"]
    with pytest.raises(UserError, match=r"crop_seconds=0.15 is shorter than the 0.175 s that ssast needs"):
        dispatch([*common, f"data={corpus}", f"run_dir={tmp_path / 'a'}", "trainer.crop_seconds=0.15"])
    (tmp_path / "audio").mkdir()
    for number in range(6):
        noise = 0.1 * np.random.default_rng(number).standard_normal(2400)  # 0.15 s: 13 frames, no whole patch
        soundfile.write(tmp_path / "audio" / f"{number}.wav", noise, 16000)
    prepare("folder", tmp_path / "audio", tmp_path / "short")
    with pytest.raises(UserError, match=r"none of the \d utterances lasts 0.175 s"):
        dispatch([*common, f"data={tmp_path / 'short'}", f"run_dir={tmp_path / 'b'}"])


def test_init_from_the_other_variant_is_one_clear_line(corpus: Path, tmp_path: Path) -> None:
    common = [f"data={corpus}", "trainer.max_steps=0", "trainer.num_workers=0"]
    dispatch(["pretrain", "upstream=ssast/patch_debug", *common, f"run_dir={tmp_path / 'patch'}"])
    with pytest.raises(UserError, match=r"is another model: its upstream.embedding.weight has shape \(48, 1, 16, 16\)"):
        frame = ["pretrain", "upstream=ssast/frame_debug", f"init_from={tmp_path / 'patch'}"]
        dispatch([*frame, *common, f"run_dir={tmp_path / 'frame'}"])
