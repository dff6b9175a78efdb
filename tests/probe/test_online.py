"""Features computed for every batch equal those from the cache."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechssl.data.cuts import Corpus, CutTable
from speechssl.errors import AudioError, UserError
from speechssl.probe import encoders
from speechssl.probe.cache import FeatureCache
from speechssl.probe.online import OnlineFeatures, OnlineFrames


def encoding(folder: Path, **settings: Any) -> encoders.EncodingSettings:
    given = {"device": "cpu", "frame_dtype": "float32", "max_seconds": 20.0, "num_workers": 0} | settings
    return encoders.EncodingSettings(cache=folder, **given)


def test_features_equal_cached_ones(letters: Corpus, toys: dict, tmp_path: Path) -> None:
    cache = encoders.Encoder("toy", encoding(tmp_path), {}).on(letters)[0]
    online = encoders.Encoder("toy", encoding(tmp_path, online=True), {}).on(letters)[0]
    assert isinstance(cache, FeatureCache)
    assert isinstance(online, OnlineFeatures)
    table = letters.table("train")
    cache.fill(letters, table, frames=True)
    online.fill(letters, table, frames=True)
    stored, fresh = cache.frames(letters, table), online.features(letters, table, frames=True)
    assert fresh.lengths.tolist() == stored.lengths.tolist()
    for found, expected in zip(fresh.batch([3, 0, 7]), stored.batch([3, 0, 7]), strict=True):
        torch.testing.assert_close(found, expected)
    windows = (np.array([2, 5]), np.array([4, 3]))
    for found, expected in zip(fresh.batch([1, 2], windows), stored.batch([1, 2], windows), strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(fresh.moments(), stored.moments(), strict=True):
        torch.testing.assert_close(found, expected)
    assert len(fresh.joined(fresh).lengths) == 2 * len(table)


@pytest.fixture
def damaged(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of utterances that cannot be read; add to it."""
    bad: set[str] = set()
    read = CutTable.read

    def reading(table: CutTable, index: int, *place: Any) -> np.ndarray:
        if table.ids[index] in bad:
            raise AudioError("damaged")
        return read(table, index, *place)

    monkeypatch.setattr(CutTable, "read", reading)
    return bad


def test_nothing_is_kept_and_unreadable_audio_is_left_out(
    words: Corpus, toys: dict, tmp_path: Path, damaged: set[str]
) -> None:
    cache = encoders.Encoder("toy", encoding(tmp_path / "cache", online=True), {}).on(words)[0]
    damaged.add("dev-4")
    cache.fill(words, words.table("dev"), frames=True)
    assert cache.readable(words, words.table("dev")) == [i for i in range(24) if i != 4]
    assert not (tmp_path / "cache").exists()


def test_audio_that_vanishes_later_is_an_error(words: Corpus, toys: dict, damaged: set[str]) -> None:
    encoders.load_upstream("toy")
    frames = OnlineFrames(toys["toy"], words.table("dev"))
    damaged.add("dev-0")
    with pytest.raises(UserError, match="could be read before"):
        frames.batch([0])
