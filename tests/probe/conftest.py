"""A made-up corpus of tones and an upstream that costs nothing."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.interfaces import Features, Upstream
from speechssl.probe import encoders, runner
from speechssl.train.logging import RunLog

KEYWORDS = {"low": 300.0, "middle": 1200.0, "high": 2000.0}  # Hz
LETTERS = {"E": 300.0, "T": 1200.0, "A": 2000.0}  # Hz
SPEAKERS = {"ann": ("female", 1.0), "bob": ("male", 0.1), "cem": ("male", 0.35), "dee": ("female", 0.6)}


def tone(pitch: float, samples: int, overtone: float) -> np.ndarray:
    """A tone; how strong its overtone is tells the speaker."""
    time = np.arange(samples) / 16000
    return 0.2 * np.sin(2 * np.pi * pitch * time) + 0.2 * overtone * np.sin(2 * np.pi * 3000 * time)


def word_audio(word: str, overtone: float, generator: np.random.Generator) -> np.ndarray:
    pieces = [np.zeros(1600)]
    for letter in word:
        pieces.append(np.zeros(2400) if letter == " " else tone(LETTERS[letter], 2400, overtone))
        pieces.append(np.zeros(800))
    audio = np.concatenate(pieces)
    return audio + 0.003 * generator.standard_normal(len(audio))


def cut(name: str, path: Path, samples: int, speaker: str, text: str | None, custom: dict[str, Any]) -> dict:
    """One line of a lhotse manifest."""
    seconds = samples / 16000
    supervision = {
        "id": name,
        "recording_id": name,
        "start": 0.0,
        "duration": seconds,
        "channel": 0,
        "text": text,
        "speaker": speaker,
        "gender": SPEAKERS[speaker][0],
        "custom": custom,
    }
    recording = {
        "id": name,
        "sources": [{"type": "file", "channels": [0], "source": str(path)}],
        "sampling_rate": 16000,
        "num_samples": samples,
        "duration": seconds,
        "channel_ids": [0],
    }
    return {
        "id": name,
        "start": 0.0,
        "duration": seconds,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }


def write_corpus(folder: Path, sizes: dict[str, int], make: Callable[[int, np.random.Generator], tuple]) -> Path:
    """Write splits of utterances (audio, speaker, text, custom) made from a number and a generator."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, size in sizes.items():
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            for number in range(size):
                audio, speaker, text, custom = make(number, generator)
                path = folder / f"{split}-{number}.wav"
                soundfile.write(path, audio, 16000)
                line = cut(f"{split}-{number}", path, len(audio), speaker, text, custom)
                file.write(json.dumps(line) + "\n")
    return folder


def spoken_word(number: int, generator: np.random.Generator) -> tuple:
    keyword, speaker = list(KEYWORDS)[number % 3], list(SPEAKERS)[number % 4]
    audio = tone(KEYWORDS[keyword] * generator.uniform(0.95, 1.05), 4000 + 160 * (number % 7), SPEAKERS[speaker][1])
    return audio + 0.003 * generator.standard_normal(len(audio)), speaker, None, {"keyword": keyword}


def spoken_letters(number: int, generator: np.random.Generator) -> tuple:
    words = ["".join(generator.choice(list(LETTERS), 2)) for _ in range(1 + number % 2)]
    speaker = list(SPEAKERS)[number % 4]
    return word_audio(" ".join(words), SPEAKERS[speaker][1], generator), speaker, " ".join(words).lower(), {}


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """60 + 24 + 24 utterances of three keywords by four speakers."""
    folder = tmp_path_factory.mktemp("corpus") / "words"
    return open_corpus(write_corpus(folder, {"train": 60, "dev": 24, "test": 24}, spoken_word))


def chord(number: int, generator: np.random.Generator) -> tuple:
    labels = [name for bit, name in enumerate(KEYWORDS) if number % 7 >> bit & 1]
    audio = sum((tone(KEYWORDS[name], 4800, 0.0) for name in labels), np.zeros(4800))
    return audio + 0.003 * generator.standard_normal(4800), list(SPEAKERS)[number % 4], None, {"labels": labels}


@pytest.fixture(scope="session")
def chords(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """70 + 21 + 28 utterances of none to two of three tones at once."""
    folder = tmp_path_factory.mktemp("corpus") / "chords"
    return open_corpus(write_corpus(folder, {"train": 70, "dev": 21, "test": 28}, chord))


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """48 + 12 + 12 utterances of one or two words over three letters."""
    folder = tmp_path_factory.mktemp("corpus") / "letters"
    return open_corpus(write_corpus(folder, {"train": 48, "dev": 12, "test": 12}, spoken_letters))


PHONES = {"E": "EH1", "T": "T", "A": "AE1"}


def activity(text: str) -> list[list]:
    """Who speaks when in `word_audio`: one voice says A, another one the rest."""
    spans, seconds = [], 0.1
    for letter in text.replace(" ", "_"):
        if letter != "_":
            spans.append(["high" if letter == "A" else "low", round(seconds, 3), round(seconds + 0.15, 3)])
        seconds += 0.2
    return spans


def answers(split: str, texts: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Speaker and columns of all tasks for the utterances of a split; every fifth is a query."""
    names, queries = [f"{split}-{i}" for i in range(len(texts))], set(range(3, len(texts), 5))
    rows = []
    for i, text in enumerate(texts):
        words = text.split()
        held = [names[j] for j, other in enumerate(texts) if j not in queries and words[0] in other.split()]
        columns = {
            "keyword": {"E": "low", "T": "middle", "A": "high"}[text[0]],
            "intent": {"first": text[0], "last": text[-1]},
            "emotion": "hap" if "A" in text else "neu",
            "sentiment": "positive" if "A" in text else "negative",
            "label": "long" if len(words) > 1 else "short",
            "phones": [PHONES[letter] for letter in text if letter != " "],
            "slots": [["last", len(words) - 1, len(words)]] if text[-1] == "A" else [],
            "entities": [["FIRST", 0, 1]] if text[0] != "E" else [],
            "activity": activity(text),
            "trials": [[names[j], int(j % 4 == i % 4)] for j in range(i + 1, min(i + 6, len(texts)))] or None,
            "relevant": held if i in queries else None,
        }
        rows.append((list(SPEAKERS)[i % 4], columns))
    return rows


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """48 + 16 + 16 utterances of one to three words over three letters, with the columns of all tasks."""
    generator, sizes = np.random.default_rng(1), {"train": 48, "dev": 16, "test": 16}
    plans = []
    for split, size in sizes.items():
        counts = [1 if i % 5 == 3 else 2 + i % 2 for i in range(size)]
        texts = [" ".join("".join(generator.choice(list(LETTERS), 2)) for _ in range(count)) for count in counts]
        plans += zip(texts, answers(split, texts), strict=True)
    waiting = iter(plans)

    def make(number: int, noise: np.random.Generator) -> tuple:
        text, (speaker, columns) = next(waiting)
        return word_audio(text, SPEAKERS[speaker][1], noise), speaker, text.lower(), columns

    return open_corpus(write_corpus(tmp_path_factory.mktemp("corpus") / "everything", sizes, make))


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """Return edited(corpus, split, change): a copy of the manifests, every cut of a split handed to `change`."""

    def edit(corpus: Corpus, split: str, change: Callable[[dict, dict], None]) -> Path:
        folder = tmp_path / "edited"
        folder.mkdir(exist_ok=True)
        for file in corpus.path.glob("*.jsonl.gz"):
            with gzip.open(file, "rt") as lines, gzip.open(folder / file.name, "wt") as out:
                for number, line in enumerate(lines):
                    content = json.loads(line)
                    if file.name.startswith(split) and number == 0:
                        change(content["supervisions"][0], content["supervisions"][0]["custom"])
                    out.write(json.dumps(content) + "\n")
        return folder

    return edit


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Leave out the loss curves, which take longer to draw than short trainings take."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RunLog, "draw", lambda log: None)
        yield


class ToyUpstream(Upstream):
    """Log power in ten bands every 20 ms, and two random projections of it; counts what it encodes."""

    downsample_rate = 320
    hidden_size = 10
    num_layers = 2

    def __init__(self, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ParameterList(torch.randn(10, 10, generator=generator) / 3 for _ in range(2))
        self.family, self.config = "toy", {"seed": seed}
        self.encoded: list[int] = []

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        self.encoded += lengths.tolist()
        frames = lengths // self.downsample_rate
        pieces = waveforms[:, : int(frames.max()) * 320].reshape(len(waveforms), -1, 320)
        power = torch.fft.rfft(pieces).abs()[..., :160].square().reshape(*pieces.shape[:2], 10, 16).mean(-1)
        states = [(power + 1e-4).log()]
        for layer in self.layers:
            states.append(torch.tanh(states[-1] @ layer))
        return Features(states, frames)


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ToyUpstream]]:
    """Make the benchmark load toy upstreams by any name; gives those that were loaded."""
    loaded: dict[str, ToyUpstream] = {}

    def load(name: str, **overrides: Any) -> ToyUpstream:
        seed = sum(map(ord, name))
        loaded[name] = ToyUpstream(seed).eval().requires_grad_(False)
        return loaded[name]

    monkeypatch.setattr(encoders, "load_upstream", load)
    monkeypatch.setattr(runner, "check_name", lambda name: None)
    return loaded
