"""Views of the synthetic corpus that pair utterances or speakers: diarization, verification, search."""

from collections import Counter

import pytest

from speechssl.data.corpora.synthetic import plan
from speechssl.data.items import SPLITS, Item, Preparation, View


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return plan()


@pytest.fixture(scope="module")
def views(preparation: Preparation) -> dict[str, View]:
    return {view.folder: view for view in preparation.views}


@pytest.fixture(scope="module")
def items(preparation: Preparation) -> dict[str, Item]:
    return {item.id: item for item in preparation.items}


def test_speakers_of_conversations_are_in_one_split_only(views: dict[str, View], items: dict[str, Item]) -> None:
    splits = views["sd"].splits
    assert {split: len(names) for split, names in splits.items()} == {"train": 80, "dev": 16, "test": 24}
    speakers = [{who for i in splits[split] for who, _, _ in items[i].custom["activity"]} for split in SPLITS]
    assert [len(names) for names in speakers] == [20, 4, 6]
    assert sum(map(len, speakers)) == len(set.union(*speakers))
    assert all(items[i].speaker is None for names in splits.values() for i in names)


def test_trials_are_half_of_the_same_speaker(views: dict[str, View], items: dict[str, Item]) -> None:
    trials = views["asv"].columns["trials"]
    assert not set(trials) & set(views["asv"].splits["train"])
    for split, count in (("dev", 360), ("test", 640)):
        names = set(views["asv"].splits[split])
        pairs = [(first, second, label) for first in names & set(trials) for second, label in trials[first]]
        assert len(pairs) == count
        assert sum(label for _, _, label in pairs) == count / 2
        assert {second for _, second, _ in pairs} <= names
        assert all((items[a].speaker == items[b].speaker) == label for a, b, label in pairs)
        assert len({frozenset((a, b)) for a, b, _ in pairs}) == count  # none twice, none with itself


def test_what_is_searched_is_found_by_the_words(views: dict[str, View], items: dict[str, Item]) -> None:
    splits = views["qbe"].splits
    assert set(splits) == {"dev", "test"}
    queries = {s: {i for i in names if items[i].custom.get("relevant") is not None} for s, names in splits.items()}
    documents = set(splits["dev"]) - queries["dev"]
    assert documents == set(splits["test"]) - queries["test"]
    assert (len(documents), len(queries["dev"]), len(queries["test"])) == (90, 40, 60)
    for name in queries["dev"] | queries["test"]:
        said = items[name].text.split()
        texts = {i: items[i].text.split() for i in documents}
        expected = {i for i, words in texts.items() if any(words[n : n + len(said)] == said for n in range(len(words)))}
        assert set(items[name].custom["relevant"]) == expected
    assert not {items[i].text for i in queries["dev"]} & {items[i].text for i in queries["test"]}


def test_some_queries_are_nowhere_and_no_query_is_in_the_voice_of_a_document(
    views: dict[str, View], items: dict[str, Item]
) -> None:
    for split, absent in (("dev", 8), ("test", 12)):
        found = Counter(
            items[i].custom["relevant"] == [] for i in views["qbe"].splits[split] if "relevant" in items[i].custom
        )
        assert found[True] == absent
        voices = {
            kind: {items[i].speaker for i in views["qbe"].splits[split] if ("relevant" in items[i].custom) == kind}
            for kind in (True, False)
        }
        assert not voices[True] & voices[False]
