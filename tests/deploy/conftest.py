"""The made-up corpora of the benchmark's tests, and small benchmarks of every task on them."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechssl.data.cuts import Corpus
from speechssl.hub import load_upstream
from speechssl.probe import runner
from speechssl.train.checkpoint import export_upstream
from speechssl.train.logging import RunLog

_SPEC = importlib.util.spec_from_file_location("made_up", Path(__file__).parents[1] / "probe" / "conftest.py")
made_up = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made_up)
everything, words, chords = made_up.everything, made_up.words, made_up.chords

LABELS = {"lid": "gender"}
TASKS = ["ks", "sid", "er", "lid", "ic", "sentiment", "classify", "pr", "sd", "asv", "qbe"]
SPOKEN = ["asr", "sf", "ner"]
SHORT = {"standardize": False, "steps": 40, "eval_every": 40, "batch_size": 8, "lrs": [1e-2], "clip_norm": None}
SHORT |= {"frame_dtype": "float32"}  # float16 features can tip what is on the edge
FIXED = {"label": None, "task": {}, "settings": {}, "finetune": False, "preset": None, "finetuning": {}}
FIXED |= {"cache": None, "device": "cpu", "max_seconds": 20.0, "num_workers": 0}

Bench = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Return bench(corpus, tasks, upstream=..., probe={...}, ...): rows, each with its "folder"."""

    def run(corpus: Corpus, tasks: list[str], upstream: str = "fbank_no_cmvn", **settings: Any) -> list[dict]:
        folder = tmp_path_factory.mktemp("bench")
        probe = SHORT | settings.pop("probe", {})
        if settings.get("finetune"):
            probe = {"standardize": False, "frame_dtype": "float16"}
        names = [f"{name}/debug" for name in tasks]
        where = {"data": str(corpus.path), "run_dir": folder, "seeds": [0]}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunLog, "draw", lambda log: None)  # curves take longer to draw than heads take to train
            rows = runner.benchmark(upstream, names, probe=probe, **where, **FIXED | settings)
        return [row | {"folder": folder / row["run"]} for row in rows]

    return run


@pytest.fixture(scope="session")
def small_heads() -> dict[str, Any]:
    """Settings of `bench` by which a recurrent head learns something in two seconds."""
    task = {"lstm_size": 24, "num_layers": 1, "projection_size": 32, "spec_augment": False}
    return {"task": task, "probe": {"lrs": [2e-2], "clip_norm": 1.0, "steps": 80, "eval_every": 80}}


@pytest.fixture(scope="session")
def rows(bench: Bench, small_heads: dict[str, Any], everything: Corpus, chords: Corpus) -> dict[str, dict[str, Any]]:
    """One result of every task."""
    found = bench(everything, TASKS, label=LABELS) + bench(chords, ["aec"])
    for name in SPOKEN:
        found += bench(everything, [name], **small_heads)
    return {row["task"]: row for row in found}


@pytest.fixture(scope="session")
def small_tera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported TERA that was never trained."""
    folder = tmp_path_factory.mktemp("upstream") / "mine"
    export_upstream(load_upstream("tera/debug@random", normalization="utterance"), folder)
    return folder


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Five tones in folders of two voices: 16 kHz mono, 44.1 kHz stereo, FLAC, and one that is no audio."""
    folder = tmp_path / "recordings"
    generator = np.random.default_rng(0)
    for number, name in enumerate(("ann/1.wav", "ann/2.wav", "bob/1.wav", "bob/2.flac")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        audio = made_up.word_audio(("E", "TA", "ETA", "T")[number], 0.3, generator)
        soundfile.write(folder / name, audio, 16000)
    stereo = generator.standard_normal((44100, 2)) * 0.1
    soundfile.write(folder / "noise.wav", stereo, 44100)
    (folder / "broken.wav").write_bytes(b"no sound")
    return folder
