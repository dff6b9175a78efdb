from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from speechssl.data.items import Item
from speechssl.data.splits import assign_splits


def items(count: int, **fields: str) -> list[Item]:
    return [Item(f"utterance-{i}", "a.wav", **fields) for i in range(count)]


def test_shares_are_kept_roughly() -> None:
    counts = Counter(assign_splits(items(5000), {"dev": 0.1, "test": 0.2}).values())
    assert abs(counts["dev"] / 5000 - 0.1) < 0.02
    assert abs(counts["test"] / 5000 - 0.2) < 0.02


@settings(deadline=None, max_examples=60)
@given(st.integers(10, 200), st.integers(1, 50))
def test_adding_files_moves_none_where_no_split_would_be_empty(count: int, more: int) -> None:
    before, after = (assign_splits(items(n), {"dev": 0.3}) for n in (count, count + more))
    if Counter(before.values())["dev"] > 1:
        assert before.items() <= after.items()


def test_ten_files_always_have_a_dev_set() -> None:
    for shares in ({"dev": 1e-9}, {"dev": 1e-9, "test": 1e-9}):
        assert set(assign_splits(items(10), shares).values()) == {"train", *shares}
    assert set(assign_splits(items(9), {"dev": 1e-9}).values()) == {"train"}


def test_a_group_stays_together() -> None:
    members = [Item(f"{i}", "a.wav", group=f"book{i % 20}") for i in range(200)]
    splits = assign_splits(members, {"dev": 0.3})
    for book in range(20):
        assert len({splits[str(i)] for i in range(book, 200, 20)}) == 1
    assert set(splits.values()) == {"train", "dev"}


def test_given_splits_are_kept_and_a_zero_share_stays_empty() -> None:
    assert set(assign_splits(items(20, split="test"), {"dev": 0.5}).values()) == {"test"}
    assert set(assign_splits(items(20), {"dev": 0.0}).values()) == {"train"}
