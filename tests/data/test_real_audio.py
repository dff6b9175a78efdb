"""The 3,000 spoken digits of FSDD, and Vorbis at 44.1 kHz, through preparation and loading."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechssl.data.cuts import open_corpus
from speechssl.data.loader import TrainStream
from speechssl.data.prepare import prepare

needs_data = pytest.mark.skipif(
    "SPEECHSSL_DATA" not in os.environ, reason="SPEECHSSL_DATA (with fsdd/, esc10/) is not set"
)


@needs_data
def test_fsdd_as_a_plain_folder(tmp_path: Path) -> None:
    source = Path(os.environ["SPEECHSSL_DATA"], "fsdd", "recordings")
    corpus = open_corpus(prepare("folder", source, tmp_path / "out", progress=False))
    info = corpus.info
    assert info["skipped"] == []
    assert info["sampling_rates"] == {"8000": 3000}
    assert sum(s["utterances"] for s in info["splits"].values()) == 3000
    assert sum(s["hours"] for s in info["splits"].values()) * 60 == pytest.approx(21.9, abs=0.05)
    assert 100 < info["splits"]["dev"]["utterances"] < 200
    assert info["splits"]["train"]["seconds"]["min"] == pytest.approx(0.144, abs=0.002)
    table = corpus.table("train")
    row = table.ids.index("7_jackson_32")
    original, _ = soundfile.read(source / "7_jackson_32.wav")
    assert table.num_samples[row] == 2 * len(original)
    # Every second sample of the doubled rate is the original but for the low-pass near its Nyquist frequency.
    assert np.corrcoef(table.read(row)[::2], original)[0, 1] > 0.999
    stream = TrainStream(table, max_seconds=30.0, seed=0, crop_seconds=None, num_workers=0)
    batches = list(itertools.islice(stream.iterate(0), 150))
    padded = sum(batch.waveforms.numel() for batch in batches)
    assert padded / sum(int(batch.lengths.sum()) for batch in batches) < 1.15


@needs_data
def test_folders_of_sounds_become_labels(tmp_path: Path) -> None:
    source = Path(os.environ["SPEECHSSL_DATA"], "esc10")
    few = tmp_path / "few"
    for folder in sorted(source.iterdir())[:3]:
        (few / folder.name).mkdir(parents=True)
        for path in sorted(folder.glob("*.ogg"))[:8]:
            (few / folder.name / path.name).symlink_to(path)
    corpus = open_corpus(prepare("folder", few, tmp_path / "out", label_from="parent", progress=False))
    assert corpus.splits == ["train", "dev", "test"]
    assert corpus.info["sampling_rates"] == {"44100": 24}
    labels = {label for split in corpus.splits for label in corpus.table(split).column("label")}
    assert labels == {"001 - Dog bark", "002 - Rain", "003 - Sea waves"}
