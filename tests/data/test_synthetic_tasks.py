"""Views of the synthetic corpus for the tasks of a benchmark: labels, sizes, splits without leaks."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from speechssl.data.corpora.synthetic import plan
from speechssl.data.cuts import fold_folders, open_corpus
from speechssl.data.items import SPLITS, Item, Preparation, View
from speechssl.data.prepare import prepare
from speechssl.data.spoken_commands import INTENTS

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'speechssl[demo]')",
)
FOLDS = [f"er/fold{number}" for number in range(1, 6)]


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return plan()


@pytest.fixture(scope="module")
def views(preparation: Preparation) -> dict[str, View]:
    return {view.folder: view for view in preparation.views}


@pytest.fixture(scope="module")
def items(preparation: Preparation) -> dict[str, Item]:
    return {item.id: item for item in preparation.items}


def test_tasks_run_at_the_size_for_small_corpora(preparation: Preparation) -> None:
    assert preparation.task_size == "debug"


def test_there_is_a_view_for_every_task(views: dict[str, View]) -> None:
    further = {"pr", "sf", "ner", "ic", "sentiment", "lid", "sd", "asv", "qbe", "aec", "classify", *FOLDS}
    assert set(views) == {"ks", "asr", "sid", *further}
    assert {view.name for view in views.values() if view.fold} == {"er"}


def test_the_plain_corpus_is_what_it_is_without_them(preparation: Preparation) -> None:
    basic = plan(tasks="basic")
    for before, now in zip(basic.items, preparation.items, strict=False):
        assert (before.id, before.split, before.text, before.custom) == (now.id, now.split, now.text, now.custom)
        assert before.audio.args == now.audio.args
    assert basic.views == preparation.views[: len(basic.views)]
    assert {item.split for item in preparation.items[len(basic.items) :]} == {""}


def test_every_further_utterance_is_in_a_view(preparation: Preparation) -> None:
    named = {name for view in preparation.views for names in view.splits.values() for name in names}
    assert {item.id for item in preparation.items if item.split == ""} <= named


def test_no_voice_of_train_is_in_dev_or_test(views: dict[str, View], items: dict[str, Item]) -> None:
    for name in ("pr", "sf", "ner", "ic", "sentiment", "lid", "asv", "classify", *FOLDS):
        train, dev, test = ({items[i].speaker for i in views[name].splits[split]} for split in SPLITS)
        assert None not in train | dev | test, name
        assert len(train) + len(dev) + len(test) == len(train | dev | test), name


def test_phones_slots_and_entities_are_of_the_recognised_sentences(
    views: dict[str, View], items: dict[str, Item]
) -> None:
    for name, column in (("pr", "phones"), ("sf", "slots"), ("ner", "entities")):
        assert views[name].splits == views["asr"].splits
        assert set(views[name].columns[column]) == {i for ids in views["asr"].splits.values() for i in ids}
    for name, spans in views["sf"].columns["slots"].items():
        words = items[name].text.split()
        for slot, first, end in spans:
            assert 0 <= first < end <= len(words)
            if slot == "number":
                assert words[first:end] in (["TWO"], ["THREE"], ["FIVE"], ["SEVEN"], ["NINE"], ["TWENTY"])
            if slot == "place":
                assert words[first] in ("UNDER", "NEAR", "BEHIND", "BESIDE", "ON", "IN", "BY", "AT")


def test_every_slot_and_entity_is_in_every_split(views: dict[str, View]) -> None:
    for name, column, expected in (
        ("sf", "slots", {"colour", "size", "place", "number", "when", "who"}),
        ("ner", "entities", {"PERSON", "PLACE", "DATE", "CARDINAL"}),
    ):
        labels = views[name].columns[column]
        for split in SPLITS:
            assert {tag for i in views[name].splits[split] for tag, _, _ in labels[i]} == expected
        assert any(spans == [] for spans in views["ner"].columns["entities"].values())


def test_every_command_is_in_train(views: dict[str, View], items: dict[str, Item]) -> None:
    intents = {
        split: {tuple(items[i].custom["intent"].values()) for i in names} for split, names in views["ic"].splits.items()
    }
    assert intents["train"] == set(INTENTS)
    assert intents["test"] <= intents["train"]
    assert {split: len(names) for split, names in views["ic"].splits.items()} == {"train": 400, "dev": 72, "test": 144}


def test_folds_of_emotions_share_out_the_known_speakers(views: dict[str, View], items: dict[str, Item]) -> None:
    tested: list[str] = []
    for folder in FOLDS:
        speakers = {split: {items[i].speaker for i in views[folder].splits[split]} for split in SPLITS}
        assert [len(speakers[split]) for split in SPLITS] == [12, 4, 4]
        assert {items[i].gender for i in views[folder].splits["test"]} == {"female", "male"}
        tested += speakers["test"]
    assert sorted(tested) == sorted({items[i].speaker for i in views["sid"].splits["train"]})


def test_the_words_do_not_tell_the_emotion(views: dict[str, View], items: dict[str, Item]) -> None:
    said = Counter(
        (items[i].speaker, items[i].text, items[i].custom["emotion"])
        for names in views["er/fold1"].splits.values()
        for i in names
    )
    assert set(said.values()) == {1}
    assert len(said) == 4 * len({(speaker, text) for speaker, text, _ in said}) == 4 * 20 * 6


def test_sentiment_follows_emotion(views: dict[str, View], items: dict[str, Item]) -> None:
    assert views["sentiment"].splits == views["er/fold1"].splits
    pairs = {(items[i].custom["emotion"], items[i].custom["sentiment"]) for i in views["sentiment"].splits["train"]}
    assert pairs == {("neutral", "neutral"), ("happy", "positive"), ("angry", "negative"), ("sad", "negative")}


def test_languages_are_balanced(views: dict[str, View], items: dict[str, Item]) -> None:
    for split, count in (("train", 60), ("dev", 24), ("test", 36)):
        languages = Counter(items[i].language for i in views["lid"].splits[split])
        assert languages == {"en": count, "de": count, "es": count, "fr": count}
    texts = [items[i].text for ids in views["lid"].splits.values() for i in ids]
    assert len(set(texts)) == len(texts)


def test_genders_of_keyword_clips(views: dict[str, View], items: dict[str, Item]) -> None:
    assert views["classify"].splits == views["ks"].splits
    assert all(items[name].gender == label for name, label in views["classify"].columns["label"].items())


def test_accents_are_told_of_english_only(views: dict[str, View], items: dict[str, Item]) -> None:
    accents = views["lid"].columns["accent"]
    assert set(accents.values()) == {"en-us", "en", "en-gb-scotland"}
    assert {items[name].language for name in accents} == {"en"}
    assert "accent" not in views["asr"].columns
    assert "accent" not in views["aec"].columns


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"num_speakers": 14}, {"sd", "asv"}),
        ({"num_speakers": 7}, {"sd", "asv"}),
        ({"num_speakers": 6}, {"sd", "asv", "er", "sentiment"}),
        ({"num_speakers": 15, "num_sentences": 1}, {"asv"}),
        ({"num_speakers": 15, "languages": "en"}, {"lid"}),
        ({"num_speakers": 15, "num_sentences": 2, "keyword_takes": 1}, set()),
    ],
)
def test_a_view_that_a_small_corpus_cannot_give_is_left_out(
    options: dict, missing: set[str], preparation: Preparation
) -> None:
    small = plan(**options)
    assert {view.name for view in preparation.views} - {view.name for view in small.views} == missing
    assert all(names for view in small.views for names in view.splits.values())


@needs_espeak
def test_prepared_labels_are_read_back(tmp_path: Path) -> None:
    options = {"num_speakers": 4, "keyword_takes": 1, "num_sentences": 1, "num_foreign": 0, "languages": "en,fr"}
    out, planned = prepare("synthetic", None, tmp_path / "corpus", **options), plan(**options)
    assert open_corpus(out).info["skipped"] == []
    items = {item.id: item for item in planned.items}
    for view in planned.views:
        corpus = open_corpus(out / view.folder)
        assert (corpus.view, corpus.fold) == (view.name, view.fold)
        for split, names in view.splits.items():
            table = corpus.table(split)
            assert sorted(table.ids) == sorted(names)
            for column, values in view.columns.items():
                assert table.column(column) == [values.get(name) for name in table.ids]
            for column in ("intent", "relevant"):
                assert table.column(column) == [items[name].custom.get(column) for name in table.ids]
    assert fold_folders(out / "qbe") == [out / "qbe"]
