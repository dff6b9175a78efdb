import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from speechssl.probe.batches import HeadBatches, Pieces, Split, join
from speechssl.probe.frames import FrameFeatures


def pooled(size: int) -> Split:
    features = torch.arange(size, dtype=torch.float32)[:, None, None].expand(size, 2, 3).clone()
    ids = [f"u{i}" for i in range(size)]
    return Split(features, {"class": list(range(size))}, ids, np.ones(size))


def framed(lengths: list[int]) -> Split:
    arrays = [np.full((n, 2, 3), i, np.float16) for i, n in enumerate(lengths)]
    ids = [f"u{i}" for i in range(len(lengths))]
    return Split(FrameFeatures(arrays), {"class": list(range(len(lengths)))}, ids, np.ones(len(lengths)))


def test_every_epoch_visits_every_utterance_once_in_another_order() -> None:
    batches = HeadBatches(pooled(10), batch_size=4, seed=0)
    drawn = np.concatenate([batches.indices(k) for k in range(5)])
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_batches_are_functions_of_their_number() -> None:
    for split, weights in ((pooled(10), None), (pooled(10), [1.0] * 10), (framed(list(range(3, 13))), None)):
        batches = HeadBatches(split, 4, seed=1, weights=weights)
        direct = [b.ids for b in itertools.islice(HeadBatches(split, 4, 1, weights).iterate(0), 9)]
        assert direct == [[f"u{i}" for i in batches.indices(k)] for k in range(9)]
        assert [b.ids for b in itertools.islice(batches.iterate(5), 2)] == direct[5:7]
        assert [b.ids for b in itertools.islice(batches.iterate(1, 2), 2)] == [direct[1], direct[3]]
        assert direct != [b.ids for b in itertools.islice(HeadBatches(split, 4, 2, weights).iterate(0), 9)]


def test_batches_larger_than_the_split_are_full() -> None:
    assert sorted(HeadBatches(pooled(3), 8, seed=0).indices(0).tolist())[:2] == [0, 0]
    assert len(HeadBatches(pooled(3), 8, seed=0).indices(7)) == 8


def test_weights_balance_the_classes() -> None:
    classes = np.array([0] * 90 + [1] * 9 + [2])
    counts = np.bincount(classes)
    batches = HeadBatches(pooled(100), 100, seed=0, weights=[1 / counts[c] for c in classes])
    drawn = classes[np.concatenate([batches.indices(k) for k in range(200)])]
    shares = np.bincount(drawn) / len(drawn)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.01)


def test_long_utterances_are_grouped_by_length() -> None:
    lengths = [5, 50, 6, 51, 7, 52, 8, 53, 9]
    batches = HeadBatches(framed(lengths), 2, seed=0)
    groups = [sorted(lengths[i] for i in batches.indices(k)) for k in range(8)]
    assert sorted(groups[:4]) == sorted(groups[4:]) == [[6, 7], [8, 9], [50, 51], [52, 53]]  # 5 alone is left out


def test_scoring_batches_hold_everything_once() -> None:
    lengths = [3000, 9000, 15000, 200, 11000]
    found = list(HeadBatches(framed(lengths), 2, seed=0).once())
    assert sorted(i for batch in found for i in batch.labels["class"]) == [0, 1, 2, 3, 4]
    assert all(batch.features.shape[0] * batch.features.shape[1] <= 20_000 for batch in found)
    batch = pooled(4).batch([2, 0])
    assert batch.features.shape == (2, 1, 2, 3)
    assert batch.features[0, 0, 0, 0] == 2
    assert batch.lengths.tolist() == [1, 1]
    assert batch.seconds == 2.0


@pytest.mark.parametrize("make", [lambda: pooled(4), lambda: framed([3, 1, 2, 5])])
def test_joined_splits_hold_both(make: Callable[[], Split]) -> None:
    first, second = make(), make()
    second.ids = [f"v{i}" for i in range(4)]
    both = join(first, second)
    assert both.ids == ["u0", "u1", "u2", "u3", "v0", "v1", "v2", "v3"]
    assert both.labels == {"class": [0, 1, 2, 3, 0, 1, 2, 3]}
    assert both.lengths.tolist() == [*first.lengths, *second.lengths]
    assert torch.equal(both.batch([6]).features, second.batch([2]).features)
    assert both.seconds.sum() == 8.0


def counted(lengths: list[int]) -> Split:
    """Frame number t of utterance u holds 100 u + t."""
    arrays = [np.broadcast_to(100 * u + np.arange(n)[:, None, None], (n, 2, 3)).copy() for u, n in enumerate(lengths)]
    ids = [f"u{u}" for u in range(len(lengths))]
    return Split(FrameFeatures(arrays), {"class": list(range(len(lengths)))}, ids, np.ones(len(lengths)))


def test_crops_are_windows_that_follow_seed_and_number() -> None:
    lengths = [3, 9, 12, 7, 20]
    batches = HeadBatches(counted(lengths), 4, seed=1, pieces=Pieces(crop=6))
    starts = []
    for number in range(12):
        batch = batches.batch(number)
        for row, length, u in zip(batch.features, batch.lengths.tolist(), batch.labels["class"], strict=True):
            first = int(row[0, 0, 0]) - 100 * u
            assert length == min(6, lengths[u])
            assert 0 <= first <= lengths[u] - length
            assert row[:length, 0, 0].tolist() == [100 * u + first + t for t in range(length)]
            starts += [first] if u == 4 else []
    assert len(set(starts)) > 3
    again = HeadBatches(counted(lengths), 4, seed=1, pieces=Pieces(crop=6)).batch(7)
    assert torch.equal(again.features, batches.batch(7).features)
    assert again.ids == batches.batch(7).ids


def test_chunks_cover_utterances_exactly_and_targets_know_their_place() -> None:
    split, seen = counted([5, 12, 4]), []

    def targets(labels: dict, starts: list[int], counts: list[int]) -> dict:
        seen.extend(zip(labels["class"], starts, counts, strict=True))
        return labels | {"frames": [list(range(s, s + c)) for s, c in zip(starts, counts, strict=True)]}

    split.targets = targets
    batches = HeadBatches(split, 2, seed=0, pieces=Pieces(chunk=5))
    for number in range(len(batches.groups)):
        batch = batches.batch(number)
        for row, frames, u in zip(batch.features, batch.labels["frames"], batch.labels["class"], strict=True):
            assert row[: len(frames), 0, 0].tolist() == [100 * u + t for t in frames]
    assert set(seen) <= {(0, 0, 5), (1, 0, 5), (1, 5, 5), (1, 10, 2), (2, 0, 4)}
    assert len(seen) == 4  # the last group would have been a single one
    whole = next(iter(split.scoring_batches()))
    assert sorted(len(row) for row in whole.labels["frames"]) == [4, 5, 12]


def test_batches_of_a_budget_are_equally_large() -> None:
    lengths = [2] * 40 + [10] * 20 + [40] * 4
    split = framed(lengths)
    groups = HeadBatches(split, 8, seed=0, pieces=Pieces(fixed=False)).groups
    padded = [len(group) * max(lengths[i] for i in group) for group in groups]
    assert max(padded) <= 8 * np.mean(lengths)
    assert sorted(np.concatenate(groups).tolist()) == list(range(64))
    assert max(map(len, groups)) > 8
    assert {len(group) for group in HeadBatches(split, 8, seed=0).groups} == {8}
