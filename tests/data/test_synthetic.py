"""The corpus spoken by espeak-ng: splits without leaks, labels, levels, the same bytes for the same seed."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from speechssl.data.corpora.synthetic import FURTHER, plan
from speechssl.data.cuts import Corpus, open_corpus
from speechssl.data.items import SPLITS, Preparation
from speechssl.data.prepare import prepare
from speechssl.data.spoken_text import KEYWORDS
from speechssl.errors import UserError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None,
    reason="espeakng-loader is not installed (pip install 'speechssl[demo]')",
)
SMALL = {"num_speakers": 6, "keyword_takes": 1, "num_sentences": 2, "languages": ["en", "fr"], "tasks": "basic"}


@pytest.fixture(scope="module")
def preparation() -> Preparation:
    return plan(tasks="basic")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    if importlib.util.find_spec("espeakng_loader") is None:
        pytest.skip("espeakng-loader is not installed (pip install 'speechssl[demo]')")
    return open_corpus(prepare("synthetic", None, tmp_path_factory.mktemp("out") / "corpus", **SMALL))


def test_counts_of_the_usual_corpus(preparation: Preparation) -> None:
    items = preparation.items
    assert len({item.id for item in items}) == len(items)
    speakers = {split: {i.speaker for i in items if i.split == split} for split in SPLITS}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 20, "dev": 4, "test": 6}
    assert sum("keyword" in item.custom for item in items) == 30 * 12 * 2
    assert sum(item.language == "en" and item.text is not None for item in items) == 30 * 12 + 20 * 8
    assert {lang: sum(item.language == lang for item in items) for lang in ("de", "es", "fr")} == {
        "de": 30,
        "es": 30,
        "fr": 30,
    }


def test_women_and_men_in_every_split(preparation: Preparation) -> None:
    for split in SPLITS:
        genders = {item.speaker: item.gender for item in preparation.items if item.split == split}
        assert sorted(genders.values()).count("female") == len(genders) / 2


def test_dev_and_test_speakers_are_nowhere_in_train(preparation: Preparation) -> None:
    by_id = {item.id: item for item in preparation.items}
    views = {view.folder: view.splits for view in preparation.views}
    plain = {split: [i.id for i in preparation.items if i.split == split] for split in SPLITS}
    for splits in (plain, views["ks"], views["asr"]):
        heard = [{by_id[name].speaker for name in splits[split]} for split in SPLITS]
        assert not heard[0] & heard[1]
        assert not heard[0] & heard[2]
        assert not heard[1] & heard[2]
    trained_on = set(plain["train"])
    for splits in views.values():
        assert set(splits["train"]) <= trained_on
        assert not trained_on & (set(splits["dev"]) | set(splits["test"]))


def test_speaker_identification_is_closed_set_with_sentences_of_its_own(preparation: Preparation) -> None:
    by_id = {item.id: item for item in preparation.items}
    splits = next(view.splits for view in preparation.views if view.folder == "sid")
    speakers = [{by_id[name].speaker for name in splits[split]} for split in SPLITS]
    assert speakers[0] == speakers[1] == speakers[2]
    assert {split: len(splits[split]) for split in SPLITS} == {"train": 240, "dev": 60, "test": 100}
    assert all(by_id[name].split == "" for split in FURTHER for name in splits[split])


def test_no_sentence_is_said_twice_and_text_is_what_character_models_take(preparation: Preparation) -> None:
    english = [i.text for i in preparation.items if i.text is not None and i.language == "en"]
    assert len(set(english)) == len(english)
    assert all(re.fullmatch(r"[A-Z' ]+", text) for text in english)
    splits = next(view.splits for view in preparation.views if view.folder == "asr")
    recognised = {name for names in splits.values() for name in names}
    assert {item.language for item in preparation.items if item.id in recognised} == {"en"}


def test_keyword_clips_are_balanced(preparation: Preparation) -> None:
    splits = next(view.splits for view in preparation.views if view.folder == "ks")
    words = {item.id: item.custom.get("keyword") for item in preparation.items}
    for split, names in splits.items():
        counts = [sum(words[name] == word for name in names) for word in KEYWORDS]
        assert len(set(counts)) == 1, split


def test_other_seeds_give_other_voices_and_texts() -> None:
    first, other = plan(seed=0, tasks="basic").items, plan(seed=1, tasks="basic").items
    assert first[0].audio.args[2] != other[0].audio.args[2]
    assert {item.text for item in first} != {item.text for item in other}


@needs_espeak
def test_speakers_differ(preparation: Preparation) -> None:
    voices = {item.speaker: item.audio.args[2] for item in preparation.items}
    assert len(set(voices.values())) == len(voices) == 30


def test_prepared_columns(corpus: Corpus) -> None:
    train = corpus.table("train")
    assert set(train.column("language")) == {"en", "fr"}
    for keyword, text, speaker, gender in zip(
        *map(train.column, ("keyword", "text", "speaker", "gender")), strict=True
    ):
        assert (keyword is None) != (text is None)
        assert keyword is None or keyword in KEYWORDS
        assert speaker.startswith("s")
        assert gender in ("female", "male")
    for view in ("ks", "asr", "sid"):
        assert open_corpus(corpus.path / view).splits == ["train", "dev", "test"]
    keywords = open_corpus(corpus.path / "ks").table("test")
    assert set(keywords.column("keyword")) == set(KEYWORDS)


def test_audio_is_audible_not_clipped_and_of_plausible_length(corpus: Corpus) -> None:
    assert corpus.info["skipped"] == []
    assert corpus.info["clipped_samples"] == 0
    for split in corpus.splits:
        table = corpus.table(split)
        for i in range(len(table)):
            samples = table.read(i)
            seconds, words = len(samples) / 16000, len((table.column("text")[i] or "one").split())
            assert 0.25 < seconds < 1.0 + 0.6 * words
            assert 0.02 < np.abs(samples).max() < 0.99
            assert 0.005 < table.rms(i) < 0.3


@needs_espeak
def test_the_same_seed_gives_the_same_bytes(
    corpus: Corpus, tmp_path: Path, folder_bytes: Callable[[Path], dict[str, bytes]]
) -> None:
    again = prepare("synthetic", None, tmp_path / "again", **SMALL)
    assert folder_bytes(again) == folder_bytes(corpus.path)


@needs_espeak
def test_an_utterance_does_not_depend_on_the_others() -> None:
    items = plan(**SMALL).items
    alone = items[-1].audio()[0]
    for item in reversed(items[-8:]):
        item.audio()
    np.testing.assert_array_equal(items[-1].audio()[0], alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "somewhere"}, "leave source= out"),
        ({"num_speakers": 3}, "num_speakers=3: expected at least 4"),
        ({"num_sentences": 0}, "num_sentences=0"),
        ({"languages": ["de"]}, "en must be there"),
        ({"languages": "en,xx"}, "no sentences in language 'xx'"),
        ({"tasks": "bassic"}, "tasks=bassic: expected one of all, basic; nearest: 'basic'"),
    ],
)
def test_wrong_settings_get_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan(**options)
