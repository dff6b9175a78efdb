"""A made-up corpus of tones, a small model that can learn them, and settings that train it in a second."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.downstream.ks import TASK
from speechssl.finetune.settings import FinetuneSettings
from speechssl.interfaces import DownstreamTask, Features, Upstream

PITCHES = {"low": 300.0, "middle": 1200.0, "high": 2600.0}  # Hz
SIZES = {"train": 30, "dev": 12, "test": 18}


def write_corpus(folder: Path, sizes: dict[str, int]) -> Path:
    """Write splits of noisy tones as lhotse manifests; the keyword is the pitch; long ones have two labels."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, size in sizes.items():
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            for number in range(size):
                keyword, samples = list(PITCHES)[number % 3], 3200 + 160 * (number % 5)
                time = np.arange(samples) / 16000
                audio = 0.2 * np.sin(2 * np.pi * PITCHES[keyword] * generator.uniform(0.95, 1.05) * time)
                path, name, seconds = folder / f"{split}-{number}.wav", f"{split}-{number}", samples / 16000
                soundfile.write(path, audio + 0.01 * generator.standard_normal(samples), 16000)
                supervision = {
                    "id": name,
                    "recording_id": name,
                    "start": 0.0,
                    "duration": seconds,
                    "channel": 0,
                    "speaker": f"s{number % 4}",
                    "custom": {"keyword": keyword, "labels": [keyword, *["long"] * (number % 5 > 2)]},
                }
                recording = {
                    "id": name,
                    "sources": [{"type": "file", "channels": [0], "source": str(path)}],
                    "sampling_rate": 16000,
                    "num_samples": samples,
                    "duration": seconds,
                    "channel_ids": [0],
                }
                line = {
                    "id": name,
                    "start": 0.0,
                    "duration": seconds,
                    "channel": 0,
                    "supervisions": [supervision],
                    "recording": recording,
                    "type": "MonoCut",
                }
                file.write(json.dumps(line) + "\n")
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """30 + 12 + 18 tones of three pitches."""
    return open_corpus(write_corpus(tmp_path_factory.mktemp("corpus") / "tones", SIZES))


@pytest.fixture
def task(tones: Corpus) -> DownstreamTask:
    return TASK(tones, projection_size=8)


class Toy(Upstream):
    """Log power in ten bands every 20 ms, two learnt layers with dropout on top; remembers what it was given."""

    downsample_rate = 320
    hidden_size = 10
    num_layers = 2
    mask_value = -7.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(10, 10) for _ in range(2))
        self.dropout = nn.Dropout(0.1)
        self.family, self.config = "toy", {}
        self.seen: list[Tensor] = []

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        frames = lengths // self.downsample_rate
        pieces = waveforms[:, : int(frames.max()) * 320].reshape(len(waveforms), -1, 320)
        power = torch.fft.rfft(pieces).abs()[..., :160].square().reshape(*pieces.shape[:2], 10, 16).mean(-1)
        features = self.augmented(((power + 1e-2).log() + 2) / 4, frames)
        self.seen.append(features.detach())
        states = [features]
        for layer in self.layers:
            states.append(states[-1] + self.dropout(torch.tanh(layer(states[-1]))))
        return Features(states, frames)


@pytest.fixture
def toy() -> Toy:
    return Toy().eval().requires_grad_(False)


def make_settings(**changes: Any) -> FinetuneSettings:
    """Six epochs of three steps; everything that augments is off."""
    values: dict[str, Any] = {
        "lrs": [3e-3],
        "head_lr": 3.0,
        "layer_decay": 1.0,
        "epochs": 6,
        "steps": None,
        "batch_size": 10,
        "accumulate": 1,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "betas": [0.9, 0.999],
        "clip_norm": 0.0,
        "schedule": "constant",
        "warmup_steps": 0,
        "milestones": {"start": 2, "every": 1},
        "gamma": 0.5,
        "lr_floor": 0.0,
        "freeze_epochs": 0,
        "layers": "last",
        "head": "linear",
        "loss": "ce",
        "label_smoothing": 0.0,
        "mixup": 0.0,
        "mixup_beta": 10,
        "frequency_mask": 0,
        "time_mask": 0,
        "time_mask_share": 0.0,
        "time_warp": 0,
        "noise": False,
        "roll": None,
        "balance": None,
        "crop_seconds": None,
        "eval_every": 1,
        "average_from": None,
        "select": "dev",
        "precision": "32-true",
        "save_every": 5,
        "num_workers": 0,
    }
    return FinetuneSettings(**values | changes)


@pytest.fixture(scope="session")
def settings() -> Any:
    """The function that makes settings."""
    return make_settings
