"""Labels of a whole corpus: every utterance once, continued at the first missing shard, collapse noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from lightning_fabric import Fabric
from torch import Tensor

from speechssl.data.cuts import Corpus, open_corpus
from speechssl.data.labels import StoredLabels
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.interfaces import Labelling, Tokenizer
from speechssl.train import labelling


class Loudness(Tokenizer):
    """One label per 1600 samples: how loud they are, in `num_codes` steps."""

    min_samples, num_codes = 1600, 8

    def __init__(self, steps: float = 40.0) -> None:
        super().__init__()
        self.register_buffer("steps", torch.tensor(steps))

    def encode(self, waveforms: Tensor, lengths: Tensor, mask_rule: str) -> Tensor:
        level = waveforms.unfold(1, 1600, 1600).square().mean(-1).sqrt() * self.steps
        inside = torch.arange(level.shape[1]) < (lengths // 1600)[:, None]
        return level.long().clamp(max=7).masked_fill(~inside, -1)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    random = np.random.default_rng(0)
    for i in range(30):
        samples = random.normal(size=int(random.integers(1000, 16000))) * random.uniform(0.0, 0.3)
        path = tmp_path / "audio" / f"{i:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples.clip(-1, 1), 16000)
    return open_corpus(prepare("folder", tmp_path / "audio", tmp_path / "prepared", progress=False))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "SHARD_HOURS", 4 / 3600)


def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def label(corpus: Corpus, folder: Path, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    work = Labelling(tokenizer or Loudness(), "sha", {"labels_seen": False})
    return labelling.label_corpus(fabric(), work, corpus, folder, 0)


def test_every_utterance_is_labelled_as_it_would_be_alone(corpus: Corpus, small_shards: None, tmp_path: Path) -> None:
    facts = label(corpus, tmp_path / "labels")
    labels = StoredLabels(tmp_path / "labels")
    assert len(labels.header["shards"]["train"]) > 2
    assert labels.header["corpus_fingerprint"] == corpus.fingerprint
    total = 0
    for split in ("train", "dev"):
        table = corpus.table(split)
        for index, name in enumerate(table.ids):
            waveform = torch.from_numpy(table.read(index))
            expected = Loudness().tokenize([waveform]) if len(waveform) >= 1600 else torch.zeros(1, 0)
            assert labels.rows([name], [0], [expected.shape[1]]).tolist() == expected.tolist()
            total += expected.shape[1]
    assert facts["codebook"]["labels"] == total
    assert facts["labels_seen"] is False


def test_an_interrupted_labelling_keeps_what_it_has(
    corpus: Corpus, small_shards: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label(corpus, tmp_path / "whole")
    done = []

    def counted(real: Callable, stop: int) -> Callable:
        def run(*arguments: Any) -> Any:
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(1)
            return real(*arguments)

        return run

    real = labelling.label_shard
    monkeypatch.setattr(labelling, "label_shard", counted(real, 2))
    with pytest.raises(KeyboardInterrupt):
        label(corpus, tmp_path / "labels")
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").rglob("*.npy")}
    assert len(first) == 2
    monkeypatch.setattr(labelling, "label_shard", counted(real, 10**6))
    label(corpus, tmp_path / "labels")
    assert {path: path.stat().st_mtime_ns for path in first} == first
    for path in (tmp_path / "whole").rglob("*.*"):
        assert (tmp_path / "labels" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()


def test_shards_of_two_tokenizers_do_not_mix(corpus: Corpus, tmp_path: Path) -> None:
    label(corpus, tmp_path / "labels")
    (tmp_path / "labels" / "labels.json").unlink()
    other = Labelling(Loudness(20.0), "another", {})
    with pytest.raises(UserError, match=r"begun with another tokenizer_sha256 \(sha, now another\)"):
        labelling.label_corpus(fabric(), other, corpus, tmp_path / "labels", 0)


def test_labels_that_are_all_the_same_end_the_run(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nearly always the same label \(perplexity 1.00 of 8 codes\)"):
        label(corpus, tmp_path / "labels", Loudness(0.0))


def test_unreadable_utterances_have_no_labels(corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    corpus = open_corpus(prepare("folder", tmp_path / "audio", tmp_path / "files", progress=False, pack=False))
    table = corpus.table("train")
    index = int(np.argmax(table.num_samples))
    Path(table.audio_of(index)[0]).write_bytes(b"not audio")
    label(corpus, tmp_path / "labels")
    assert "left out of the labels" in caplog.text
    labels = StoredLabels(tmp_path / "labels")
    with pytest.raises(UserError, match="has 0 labels"):
        labels.rows([table.ids[index]], [0], [1])
    assert labels.histogram().sum() > 50
