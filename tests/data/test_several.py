"""Several corpora as one."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechssl.audio import KaldiFbank
from speechssl.commands.main import dispatch
from speechssl.data.prepare import prepare
from speechssl.data.several import open_corpora
from speechssl.errors import UserError
from speechssl.hub import load_upstream


def corpus(folder: Path, name: str, count: int, hertz: float) -> Path:
    source = folder / f"{name}-source"
    source.mkdir()
    for number in range(count):
        tone = 0.1 * np.sin(2 * np.pi * hertz * (1 + number) * np.arange(16000) / 16000)
        soundfile.write(source / f"{number}.wav", tone, 16000)
    return prepare("folder", source, folder / name, dev_share=0.3, name=name, progress=False)


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    return [str(corpus(tmp_path, "low", 8, 50.0)), str(corpus(tmp_path, "high", 6, 400.0))]


def test_joined_corpora_read_the_audio_of_each(two: list[str]) -> None:
    whole, parts = open_corpora(two), [open_corpora(one) for one in two]
    assert whole.name == "low+high"
    for split in whole.splits:
        tables = [part.table(split) for part in parts if split in part.splits]
        joined = whole.table(split)
        assert len(joined) == sum(len(table) for table in tables)
        assert len(set(joined.ids)) == len(joined)
        row = 0
        for table in tables:
            for index in range(len(table)):
                assert np.array_equal(joined.read(row), table.read(index))
                row += 1
    assert whole.fingerprint != open_corpora(two[::-1]).fingerprint


def test_statistics_are_those_of_all_frames(two: list[str]) -> None:
    frontend = KaldiFbank(num_mels=20)
    mean, _ = open_corpora(two).statistics(frontend)
    parts = [open_corpora(one) for one in two]
    means = [part.statistics(frontend)[0] for part in parts]
    sizes = [len(part.table("train")) for part in parts]
    expected = sum(m * n for m, n in zip(means, sizes, strict=True)) / sum(sizes)
    torch.testing.assert_close(mean, expected, atol=1e-4, rtol=0)


def test_wrong_lists(two: list[str]) -> None:
    with pytest.raises(UserError, match="different corpora"):
        open_corpora([two[0], two[0]])
    with pytest.raises(UserError, match="no corpus"):
        open_corpora([])
    with pytest.raises(UserError, match="does not exist"):
        open_corpora([two[0], "nowhere"])
    assert open_corpora([two[0]]).name == "low"


def test_pretrain_on_both(two: list[str], tmp_path: Path) -> None:
    data = f"data=[{two[0]},{two[1]}]"
    few = ["trainer.max_steps=2", "trainer.num_workers=0", "trainer.progress=false", "trainer.max_seconds=4"]
    statistics = ["upstream.mean=null", "upstream.std=null"]
    dispatch(["pretrain", "upstream=ssast/debug", data, f"run_dir={tmp_path / 'run'}", *few, *statistics])
    upstream = load_upstream(str(tmp_path / "run"))
    assert upstream.spectrogram.known
    assert len(upstream([torch.zeros(16000)]).hidden_states) == 3
