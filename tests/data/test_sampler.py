from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.data.sampler import (
    BatchPlan,
    cut_sorted,
    seeded_order,
    sorted_batches,
    utterance_numbers,
)

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=120).map(lambda values: np.array(values, np.int64))


def greedy(order: list[int], lengths: np.ndarray, max_samples: int) -> list[list[int]]:
    """The obvious loop that `cut_sorted` has to agree with."""
    batches: list[list[int]] = []
    for index in order:
        if batches and lengths[index] * (len(batches[-1]) + 1) <= max_samples:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(LENGTHS, st.integers(1, 30000))
def test_batches_are_cut_as_the_obvious_loop_does(lengths: np.ndarray, max_samples: int) -> None:
    order = np.argsort(lengths, kind="stable")
    found = [batch.tolist() for batch in cut_sorted(order, lengths, max_samples)]
    assert found == greedy(order.tolist(), lengths, max_samples)


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(LENGTHS, st.integers(1, 30000), st.integers(0, 5), st.integers(1, 50), st.integers(0, 3))
def test_every_epoch_holds_every_utterance_once(
    lengths: np.ndarray, max_samples: int, seed: int, pool_size: int, epoch: int
) -> None:
    plan = BatchPlan(lengths, max_samples=max_samples, seed=seed, pool_size=pool_size)
    batches = plan.epoch(epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or lengths[batch].max() * len(batch) <= max_samples


@settings(deadline=None, max_examples=60)  # a busy machine is no failure
@given(LENGTHS, st.integers(0, 60))
def test_a_number_is_all_that_resuming_needs(lengths: np.ndarray, number: int) -> None:
    straight = BatchPlan(lengths, max_samples=9000, seed=3, pool_size=20)
    sequence = [straight[k] for k in range(number + 8)]
    resumed = BatchPlan(lengths, max_samples=9000, seed=3, pool_size=20)
    assert [resumed[k] for k in range(number, number + 8)] == sequence[number:]
    assert [spec.number for spec in sequence] == list(range(number + 8))
    assert [straight[k] for k in reversed(range(number + 8))] == sequence[::-1]  # also out of order


def test_numbers_run_through_the_epochs() -> None:
    plan = BatchPlan(np.full(10, 100), max_samples=300, seed=0, pool_size=10)  # four batches an epoch
    specs = [plan[k] for k in range(12)]
    assert [spec.epoch for spec in specs] == [0] * 4 + [1] * 4 + [2] * 4
    assert [i for spec in specs[4:8] for i in spec.indices] == np.concatenate(plan.epoch(1)).tolist()


def test_epochs_and_seeds_differ() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(BatchPlan(np.full(50, 9), max_samples=90, seed=seed, pool_size=20).epoch(epoch)).tolist()

    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def splitmix64(state: int) -> int:
    """Steele, Lea and Flood's generator in plain integers: the output for an advanced state."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_seeded_order_sorts_splitmix64_outputs() -> None:
    golden = 0x9E3779B97F4A7C15
    assert splitmix64(1234567 + golden) == 6457827717110365317  # as published for that seed
    key = int.from_bytes(blake2b(b"utterances/5/2", digest_size=8).digest(), "little")
    outputs = [splitmix64((key + (i + 1) * golden) % 2**64) for i in range(40)]
    assert seeded_order(40, 5, 2, "utterances").tolist() == sorted(range(40), key=outputs.__getitem__)


def test_seeded_order_is_fair() -> None:
    places = np.array([seeded_order(20, seed, 0, "x").argsort()[0] for seed in range(4000)])
    assert abs(places.mean() - 9.5) < 0.4
    assert np.bincount(places, minlength=20).min() > 130


def test_batches_come_in_random_order() -> None:
    plan = BatchPlan(np.arange(1, 201) * 10, max_samples=8000, seed=0, pool_size=200)
    longest = [max(batch) for batch in plan.epoch(0)]
    assert longest != sorted(longest)


def test_little_padding_on_spoken_words() -> None:
    """Lengths as of spoken digits: 0.14 to 2.3 s, 0.44 s on average; unsorted, padding doubles the audio."""
    lengths = np.clip(np.random.default_rng(0).lognormal(np.log(6500), 0.35, 2700), 2300, 36000).astype(np.int64)
    for max_seconds in (15, 30, 60):
        plan = BatchPlan(lengths, max_samples=max_seconds * 16000, seed=0, pool_size=1000)
        batches = [batch for epoch in range(3) for batch in plan.epoch(epoch)]
        padded = sum(lengths[batch].max() * len(batch) for batch in batches)
        assert padded / (3 * lengths.sum()) < 1.15


def test_evaluation_order_is_fixed_and_starts_with_the_longest() -> None:
    lengths = np.array([50, 900, 10, 400, 410, 20])
    specs = sorted_batches(lengths, 850)
    assert [sorted(spec.indices) for spec in specs] == [[1], [3, 4], [0, 2, 5]]
    assert {spec.epoch for spec in specs} == {0}


def test_utterance_numbers_depend_on_everything_and_fit_int64() -> None:
    numbers = {
        utterance_numbers(seed, epoch, name) for seed in (0, 1) for epoch in (0, 1) for name in ("a", "b", "ü/\udcff")
    }
    assert len(numbers) == 12
    assert all(0 <= number < 2**63 for pair in numbers for number in pair)
    assert utterance_numbers(0, 0, "a") == utterance_numbers(0, 0, "a")


@pytest.mark.parametrize("bits", [8, 62])
def test_utterance_numbers_are_uniform(bits: int) -> None:
    values = np.array([utterance_numbers(0, 0, str(i)) for i in range(4000)]) >> (63 - bits)
    np.testing.assert_allclose(values.mean(0) / 2**bits, 0.5, atol=0.02)
