import gc
import itertools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet, Recording

from speechssl.data.cuts import CutTable, open_corpus
from speechssl.data.loader import TrainStream, utterance_batches
from speechssl.data.prepare import prepare
from speechssl.errors import UserError
from speechssl.interfaces import Batch

SETTINGS = {"max_seconds": 1.0, "seed": 0, "crop_seconds": 0.3, "num_workers": 0, "pool_size": 10}


@pytest.fixture
def table(audio_tree: Callable[..., Path], tmp_path: Path) -> CutTable:
    """Return 24 utterances of 0.2 to 0.5 s in a shard."""
    return open_corpus(prepare("folder", audio_tree(24), tmp_path / "out", progress=False, dev_share=0.0)).table(
        "train"
    )


@pytest.fixture
def files(tmp_path: Path, write_audio: Callable[..., Path]) -> CutTable:
    """Return 8 utterances in files of their own, without stored levels."""
    paths = [write_audio(tmp_path / "flac" / f"{i}.flac", 0.4 + i / 10, seed=i) for i in range(8)]
    cuts = [Recording.from_file(path).to_cut().with_id(path.stem) for path in paths]
    CutSet.from_cuts(cuts).to_file(tmp_path / "flac" / "cuts.jsonl.gz")
    return open_corpus(tmp_path / "flac" / "cuts.jsonl.gz").table("train")


def equal(a: Batch, b: Batch) -> bool:
    tensors = ("waveforms", "lengths", "seeds", "rms", "starts")
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in tensors)
    return same and (a.ids, a.empty, a.unreadable) == (b.ids, b.empty, b.unreadable)


def take(stream: TrainStream, start: int, count: int, step: int = 1) -> list[Batch]:
    return list(itertools.islice(stream.iterate(start, step), count))


def test_batches_do_not_depend_on_workers_or_where_one_enters(table: CutTable) -> None:
    reference = take(TrainStream(table, **SETTINGS), 0, 30)
    for workers in (0, 1, 2):
        stream = TrainStream(table, **SETTINGS | {"num_workers": workers})
        for start, step in ((0, 1), (17, 1), (1, 2)):  # one stream is entered several times
            found = take(stream, start, 6, step)
            assert all(equal(a, b) for a, b in zip(found, reference[start::step], strict=False))


def test_every_epoch_reads_every_utterance_with_new_crops_and_seeds(table: CutTable) -> None:
    stream = TrainStream(table, **SETTINGS)
    per_epoch = [len(stream._plan.epoch(epoch)) for epoch in (0, 1)]
    batches = take(stream, 0, sum(per_epoch))
    epochs = batches[: per_epoch[0]], batches[per_epoch[0] :]
    seeds = []
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch.ids) == sorted(table.ids)
        seeds.append({i: s for batch in epoch for i, s in zip(batch.ids, batch.seeds.tolist(), strict=True)})
    assert not set(seeds[0].values()) & set(seeds[1].values())


def test_crops_are_parts_of_their_utterance_at_changing_places(table: CutTable) -> None:
    stream = TrainStream(table, **SETTINGS)
    longest = int(np.argmax(table.num_samples))
    whole, places = table.read(longest), set()
    for batch in take(stream, 0, 120):
        assert batch.waveforms.shape[1] <= 4800
        if table.ids[longest] in batch.ids:
            row = batch.ids.index(table.ids[longest])
            crop = batch.waveforms[row, : batch.lengths[row]].numpy()
            assert len(crop) == 4800
            windows = np.lib.stride_tricks.sliding_window_view(whole, 4800)
            places.add(int(np.flatnonzero((windows == crop).all(1))[0]))
    assert len(places) > 5


def test_shape_padding_and_limits(table: CutTable) -> None:
    for batch in take(TrainStream(table, **SETTINGS | {"crop_seconds": None}), 0, 30):
        assert batch.waveforms.dtype == torch.float32
        assert batch.lengths.dtype == batch.seeds.dtype == torch.int64
        assert batch.waveforms.shape == (len(batch.ids), int(batch.lengths.max()))
        assert batch.waveforms.numel() <= 16000
        for waveform, length, name in zip(batch.waveforms, batch.lengths, batch.ids, strict=True):
            row = table.ids.index(name)
            np.testing.assert_array_equal(waveform[:length].numpy(), table.read(row))
            assert not waveform[length:].any()


def test_levels_are_those_of_the_whole_utterance(table: CutTable, files: CutTable) -> None:
    for source in (table, files):
        for batch in take(TrainStream(source, **SETTINGS), 0, 10):
            for name, level in zip(batch.ids, batch.rms.tolist(), strict=True):
                whole = source.read(source.ids.index(name)).astype(np.float64)
                assert level == pytest.approx(np.sqrt(np.mean(whole**2)), rel=1e-6)


def test_once_gives_every_utterance_exactly_once_and_always_the_same(table: CutTable) -> None:
    for workers in (0, 1):
        stream = TrainStream(table, **SETTINGS | {"num_workers": workers})
        take(stream, 5, 2)
        first, second = list(stream.once()), list(stream.once())
        assert sorted(i for batch in first for i in batch.ids) == sorted(table.ids)
        assert all(equal(a, b) for a, b in zip(first, second, strict=True))


def test_extraction_batches(table: CutTable) -> None:
    batches = list(utterance_batches(table, max_seconds=1.0))
    assert sorted(i for batch in batches for i in batch.ids) == sorted(table.ids)
    lengths = [int(n) for batch in batches for n in batch.lengths]
    assert sum(lengths) == table.num_samples.sum()
    longest = [int(batch.lengths.max()) for batch in batches]
    assert longest == sorted(longest, reverse=True)
    again = list(utterance_batches(table, max_seconds=1.0, num_workers=2))
    assert all(equal(a, b) for a, b in zip(batches, again, strict=True))


def test_unreadable_utterances_are_reported_and_the_rest_goes_on(files: CutTable, tmp_path: Path) -> None:
    (tmp_path / "flac" / "3.flac").unlink()
    (tmp_path / "flac" / "5.flac").write_bytes(b"nothing")
    stream = TrainStream(files, **SETTINGS | {"max_seconds": 100.0})
    batch = take(stream, 0, 1)[0]
    assert sorted(batch.ids) == ["0", "1", "2", "4", "6", "7"]
    assert sorted(name for name, _ in batch.unreadable) == ["3", "5"]
    assert "3.flac does not exist" in dict(batch.unreadable)["3"]
    assert not batch.empty
    assert len(batch.rms) == len(batch.seeds) == 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_of_nothing_but_bad_files_is_a_second_of_silence(files: CutTable, tmp_path: Path, workers: int) -> None:
    for path in (tmp_path / "flac").glob("*.flac"):
        path.unlink()
    batch = take(TrainStream(files, **SETTINGS | {"max_seconds": 100.0, "num_workers": workers}), 0, 1)[0]
    assert batch.empty
    assert batch.seconds == 0.0
    assert batch.waveforms.shape == (1, 16000)
    assert not batch.waveforms.any()
    assert len(batch.unreadable) == 8


def test_global_random_states_are_neither_read_nor_changed(table: CutTable) -> None:
    def states() -> tuple:
        return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()

    before = states()
    first = take(TrainStream(table, **SETTINGS | {"num_workers": 1}), 0, 4)
    assert states() == before
    torch.manual_seed(99)
    assert all(equal(a, b) for a, b in zip(first, take(TrainStream(table, **SETTINGS), 0, 4), strict=True))


def test_workers_end_with_their_stream(table: CutTable) -> None:
    stream = TrainStream(table, **SETTINGS | {"num_workers": 2})
    take(stream, 0, 3)
    workers = multiprocessing.active_children()
    assert len(workers) >= 2
    gc.disable()  # the stream must not be part of a cycle: its workers would be waited for in vain
    try:
        del stream
        assert not any(worker.is_alive() for worker in workers)
    finally:
        gc.enable()


ENDS = """
import itertools, signal, sys, time
from speechssl.data.cuts import open_corpus
from speechssl.data.loader import TrainStream
stream = TrainStream(
    open_corpus(sys.argv[1]).table("train"), max_seconds=1.0, seed=0, crop_seconds=0.3, num_workers=2
)
batches = stream.iterate(0)
next(batches)
signal.signal(signal.SIGTERM, lambda *_: None)
print(len(list(itertools.islice(batches, 3))), flush=True)
time.sleep(float(sys.argv[2]))
print(len(list(itertools.islice(batches, 30))), flush=True)
"""


def test_a_process_ends_although_its_stream_is_open(table: CutTable, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS, str(tmp_path / "out"), "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["3", "30"]


def test_workers_pass_over_a_sigterm_to_the_whole_group(table: CutTable, tmp_path: Path) -> None:
    """A scheduler's SIGTERM reaches all processes of a job; the main one still reads while it saves."""
    command = [sys.executable, "-c", ENDS, str(tmp_path / "out"), "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "3\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout.readline() == "30\n"
        assert process.wait(timeout=60) == 0


def test_short_utterances_are_left_out(table: CutTable, caplog: pytest.LogCaptureFixture) -> None:
    stream = TrainStream(table, **SETTINGS, min_seconds=0.3)
    kept = {i for batch in stream.once() for i in batch.ids}
    assert kept == {i for i, n in zip(table.ids, table.num_samples, strict=True) if n >= 4800}
    assert "shorter than 0.3 s are left out" in caplog.text
    with pytest.raises(UserError, match=r"none of the 24 utterances lasts 9\.0 s"):
        TrainStream(table, **SETTINGS, min_seconds=9.0)


@pytest.mark.parametrize("wrong", [{"max_seconds": 0}, {"crop_seconds": -1.0}])
def test_wrong_settings(table: CutTable, wrong: dict) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))} must be positive"):
        TrainStream(table, **SETTINGS | wrong)


def test_batches_of_many_short_utterances_are_full(table: CutTable) -> None:
    sizes = [
        len(batch.ids) for batch in take(TrainStream(table, **SETTINGS | {"max_seconds": 3.0, "pool_size": 2}), 0, 4)
    ]
    assert max(sizes) >= 8


def test_crops_can_start_at_multiples(table: CutTable) -> None:
    stream = TrainStream(table, **SETTINGS | {"crop_multiple": 400})
    starts = set()
    for batch in take(stream, 0, 30):
        starts |= set(batch.starts.tolist())
        for row, (name, start) in enumerate(zip(batch.ids, batch.starts.tolist(), strict=True)):
            length = int(batch.lengths[row])
            expected = table.read(table.ids.index(name), start, length)
            assert start % 400 == 0
            assert np.array_equal(batch.waveforms[row, :length].numpy(), expected)
    assert len(starts) > 3, "crops start at different places"
