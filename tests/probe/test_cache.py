from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.errors import UserError
from speechssl.hub import weights_sha256
from speechssl.interfaces import Features, Upstream
from speechssl.probe import cache as caching
from speechssl.probe.cache import FeatureCache
from speechssl.probe.frames import FrameFeatures


class Ramp(Upstream):
    """Two hidden states of three channels that depend on the waveform; counts what it encodes."""

    downsample_rate, hidden_size, num_layers = 160, 3, 1

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))
        self.family, self.config, self.encoded = "ramp", {}, 0

    def encode(self, waveforms: Tensor, lengths: Tensor) -> Features:
        self.encoded += len(lengths)
        frames = lengths // 160
        pieces = waveforms[:, : int(frames.max()) * 160].reshape(len(waveforms), -1, 160)
        state = torch.stack([pieces.std(-1), pieces.amax(-1), pieces[..., 0]], dim=-1) * self.scale
        return Features([state, 2 * state - 1], frames)


def open_cache(folder: Path, upstream: Upstream, dtype: str = "float32") -> FeatureCache:
    settings = {"frame_dtype": dtype, "max_seconds": 4.0, "num_workers": 0}
    return FeatureCache(folder, upstream.eval().requires_grad_(False), weights_sha256(upstream), **settings)


def in_memory(upstream: Upstream, corpus: Corpus, split: str) -> list[Tensor]:
    table = corpus.table(split)
    with torch.no_grad():
        states = [upstream([torch.from_numpy(table.read(i))]).hidden_states for i in range(len(table))]
    return [torch.cat(rows).transpose(0, 1) for rows in states]  # (T, L + 1, D)


def test_equals_features_made_one_by_one(words: Corpus, tmp_path: Path) -> None:
    upstream = Ramp()
    expected = in_memory(upstream, words, "dev")
    cache, table = open_cache(tmp_path, upstream), words.table("dev")
    cache.fill(words, table, frames=True)
    again = open_cache(tmp_path, upstream)  # from disk
    pooled = again.pooled(words, table)
    torch.testing.assert_close(pooled, torch.stack([row.mean(dim=0) for row in expected]), atol=1e-6, rtol=0)
    frames = again.frames(words, table)
    assert frames.lengths.tolist() == [len(row) for row in expected]
    features, lengths = frames.batch([5, 0])
    torch.testing.assert_close(features[0, : lengths[0]], expected[5], atol=1e-6, rtol=0)
    assert not features[1, lengths[1] :].any()


@pytest.mark.parametrize("frames", [False, True])
def test_deviations_are_kept_beside_the_means(words: Corpus, tmp_path: Path, frames: bool) -> None:
    upstream = Ramp()
    rows = in_memory(upstream, words, "dev")
    expected = torch.stack([torch.cat([row.mean(dim=0), row.std(dim=0, correction=0)], dim=-1) for row in rows])
    cache, table = open_cache(tmp_path, upstream, "float16"), words.table("dev")
    cache.fill(words, table, frames=frames)
    found = open_cache(tmp_path, upstream).pooled(words, table, "mean_std")
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert torch.equal(found[..., :3], cache.features(words, table, frames=False))
    assert torch.equal(found, cache.features(words, table, frames=False, pooling="mean_std"))


def test_caches_without_deviations_are_completed_and_never_misread(words: Corpus, tmp_path: Path) -> None:
    upstream, table = Ramp(), words.table("dev")
    whole = open_cache(tmp_path, upstream)
    whole.fill(words, table, frames=False)
    for file in tmp_path.rglob("deviation-*"):
        file.unlink()
    old = open_cache(tmp_path, upstream)
    old.fill(words, table, frames=False)
    assert upstream.encoded == len(table)
    assert torch.equal(old.pooled(words, table), whole.pooled(words, table))
    old.fill(words, table, frames=False, pooling="mean_std")
    assert upstream.encoded == 2 * len(table)
    assert old.pooled(words, table, "mean_std").shape == (24, 2, 6)
    assert len(list(tmp_path.rglob("pooled-*.npy"))) == 1


def test_half_precision_frames_are_close_and_pooled_ones_exact(words: Corpus, tmp_path: Path) -> None:
    upstream = Ramp()
    whole, half = open_cache(tmp_path, upstream), open_cache(tmp_path, upstream, "float16")
    table = words.table("dev")
    for cache in (half, whole):
        cache.fill(words, table, frames=True)
    assert torch.equal(half.pooled(words, table), whole.pooled(words, table))
    a, b = half.frames(words, table).batch([3])[0], whole.frames(words, table).batch([3])[0]
    assert 0 < float((a - b).abs().max()) < 1e-3


def test_every_utterance_is_encoded_once(words: Corpus, tmp_path: Path) -> None:
    upstream, table = Ramp(), words.table("train")
    cache = open_cache(tmp_path, upstream)
    cache.fill(words, table, frames=True)
    cache.fill(words, table, frames=False)
    cache.fill(words, table.select([3, 1]), frames=True)
    open_cache(tmp_path, upstream).fill(words, table, frames=True)
    assert upstream.encoded == len(table)
    picked = cache.pooled(words, table.select([3, 1]))
    assert torch.equal(picked, cache.pooled(words, table)[[3, 1]])


def test_another_model_has_another_cache(words: Corpus, tmp_path: Path) -> None:
    table = words.table("dev")
    first, second = Ramp(1.0), Ramp(2.0)
    for upstream in (first, second):
        open_cache(tmp_path, upstream).fill(words, table, frames=False)
        assert upstream.encoded == len(table)
    a, b = open_cache(tmp_path, first), open_cache(tmp_path, second)
    torch.testing.assert_close(2 * a.pooled(words, table)[:, 0], b.pooled(words, table)[:, 0])


def test_an_interrupted_run_goes_on_after_the_last_whole_shard(
    words: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "SHARD_SECONDS", 2.0)
    upstream, table = Ramp(), words.table("train")
    parts = list(open_cache(tmp_path, upstream)._parts(table, list(range(len(table))), False))
    assert sorted(i for part in parts for i in part) == list(range(len(table)))
    assert len(parts) > 5

    cache = open_cache(tmp_path, upstream)
    encode = cache._encode
    done = []

    def stop_at_third(*arguments) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        encode(*arguments)
        done.append(1)

    monkeypatch.setattr(cache, "_encode", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(words, table, frames=True)
    before = upstream.encoded
    assert before == len(parts[0]) + len(parts[1])
    open_cache(tmp_path, upstream).fill(words, table, frames=True)
    assert upstream.encoded == len(table)
    assert open_cache(tmp_path, upstream).pooled(words, table).shape == (60, 2, 3)


def test_half_written_shards_do_not_count(words: Corpus, tmp_path: Path) -> None:
    upstream, table = Ramp(), words.table("dev")
    open_cache(tmp_path, upstream).fill(words, table, frames=False)
    for mark in tmp_path.rglob("*.json"):
        mark.unlink()
    open_cache(tmp_path, upstream).fill(words, table, frames=False)
    assert upstream.encoded == 2 * len(table)


def test_damaged_and_overflowing_features_are_reported(words: Corpus, tmp_path: Path) -> None:
    table = words.table("dev")
    with pytest.raises(UserError, match=r"frame_dtype=float32"):
        open_cache(tmp_path, Ramp(1e6), "float16").fill(words, table, frames=True)
    upstream = Ramp()
    open_cache(tmp_path, upstream).fill(words, table, frames=False)
    for file in tmp_path.rglob("pooled-*.npy"):
        file.write_bytes(b"nothing")
    with pytest.raises(UserError, match="damaged"):
        open_cache(tmp_path, upstream).pooled(words, table)
    with pytest.raises(UserError, match="float16, float32, int8"):
        open_cache(tmp_path, upstream, "int4")


def test_moments_are_those_of_all_frames() -> None:
    generator = np.random.default_rng(0)
    arrays = [generator.normal(3.0, 2.0, (n, 2, 4)).astype(np.float32) for n in (5, 17, 1)]
    mean, std = FrameFeatures(arrays).moments()
    joined = np.concatenate(arrays).astype(np.float64)
    np.testing.assert_allclose(mean, joined.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std, joined.std(axis=0), atol=1e-6)


def test_int8_frames_take_half_the_room_and_stay_within_half_a_step(words: Corpus, tmp_path: Path) -> None:
    table = words.table("dev")
    caches = {}
    for dtype in ("int8", "float16", "float32"):
        caches[dtype] = open_cache(tmp_path / dtype, Ramp(), dtype)
        caches[dtype].fill(words, table, frames=True)
    exact, coarse = (caches[dtype].frames(words, table) for dtype in ("float32", "int8"))
    sizes = {d: sum(f.stat().st_size for f in (tmp_path / d).rglob("frames-*.npy")) for d in caches}
    assert sizes["int8"] < 0.51 * sizes["float16"] < 0.27 * sizes["float32"]
    states, lengths = exact.batch([3, 0])
    found, again = coarse.batch([3, 0])
    assert again.tolist() == lengths.tolist()
    step = states.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((found - states).abs() <= 0.5001 * step + 1e-7).all())
    assert float((found - states).abs().max()) > 0
    for a, b in zip(coarse.layer(1), exact.layer(1), strict=True):
        torch.testing.assert_close(a, b, atol=float(b.abs().max()) / 127, rtol=0)
    for a, b in zip(coarse.moments(), exact.moments(), strict=True):
        torch.testing.assert_close(a, b, atol=0.02, rtol=0.02)
    torch.testing.assert_close(coarse.joined(coarse).batch([27])[0], coarse.batch([3])[0])
    reopened = open_cache(tmp_path / "int8", Ramp(), "int8").frames(words, table)
    assert torch.equal(reopened.batch([3, 0])[0], found)
