"""Beam search with a language model against a search through all paths, and what is said where it cannot be done."""

import itertools
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from speechssl.downstream.asr.beam_search import BeamOptions, BeamSearch, check_model, read_spellings
from speechssl.downstream.asr.dataset import BLANK, Alphabet
from speechssl.downstream.asr.task import SpeechRecognition
from speechssl.errors import UserError

Make = Callable[..., Any]
UNIGRAMS = {  # word: (log10 probability, log10 backoff weight)
    "<unk>": (-2.0, 0.0),
    "<s>": (-99.0, -0.3),
    "</s>": (-1.0, 0.0),
    "A": (-0.9, -0.2),
    "AB": (-1.1, -0.25),
    "BA": (-0.8, -0.1),
    "B": (-1.3, -0.15),
}
BIGRAMS = {
    ("<s>", "A"): -0.4,
    ("<s>", "AB"): -0.9,
    ("A", "B"): -0.5,
    ("A", "BA"): -0.3,
    ("AB", "A"): -0.6,
    ("BA", "</s>"): -0.2,
    ("B", "</s>"): -0.7,
    ("B", "AB"): -0.35,
}
WORDS = ("A", "AB", "BA", "B")
ENGLISH = Alphabet()
SYMBOLS, INDEX, encode = ENGLISH.symbols, ENGLISH.index, ENGLISH.encode
OPTIONS = BeamOptions(beam_size=2000, beam_threshold=1e9, lm_weight=1.5, word_score=-0.4)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Write the bigrams as ARPA text."""
    lines = ["", "\\data\\", f"ngram 1={len(UNIGRAMS)}", f"ngram 2={len(BIGRAMS)}", "", "\\1-grams:"]
    lines += [f"{value}\t{word}\t{backoff}" for word, (value, backoff) in UNIGRAMS.items()]
    lines += ["", "\\2-grams:", *(f"{value}\t{' '.join(pair)}" for pair, value in BIGRAMS.items()), "", "\\end\\", ""]
    (tmp_path / "toy.arpa").write_text("\n".join(lines))
    return str(tmp_path / "toy.arpa")


@pytest.fixture
def lexicon(tmp_path: Path) -> str:
    (tmp_path / "toy.lexicon").write_text("".join(f"{word}\t{' '.join(word)} |\n" for word in WORDS))
    return str(tmp_path / "toy.lexicon")


def language_score(words: list[str]) -> float:
    """Return the log10 probability of a sentence."""
    total = 0.0
    for pair in itertools.pairwise(["<s>", *words, "</s>"]):
        total += BIGRAMS[pair] if pair in BIGRAMS else UNIGRAMS[pair[0]][1] + UNIGRAMS[pair[1]][0]
    return total


def words_of(path: tuple[int, ...]) -> list[str] | None:
    """Return the words of a path through frames; None where it spells something else, or does not end one."""
    text = "".join(SYMBOLS[symbol] for symbol, _ in itertools.groupby(path) if symbol != BLANK)
    words = [word for word in text.split("|")[:-1] if word]
    return words if (not text or text.endswith("|")) and set(words) <= set(WORDS) else None


def best_of_all_paths(scores: torch.Tensor, symbols: list[int]) -> str:
    """Return the words with the best sum of path, language model and word scores for (T, V) log probabilities."""
    best: dict[tuple[str, ...], float] = {}
    for path in itertools.product(symbols, repeat=len(scores)):
        words = words_of(path)
        if words is not None:
            value = float(scores[range(len(path)), list(path)].sum())
            best[tuple(words)] = max(value, best.get(tuple(words), -math.inf))
    total = {
        words: value + OPTIONS.lm_weight * language_score(list(words)) + OPTIONS.word_score * len(words)
        for words, value in best.items()
    }
    return " ".join(max(total, key=total.__getitem__))


def test_equals_a_search_through_all_paths(model: str, lexicon: str) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    search, symbols = BeamSearch(model, lexicon, OPTIONS, ENGLISH), [BLANK, INDEX["|"], INDEX["A"], INDEX["B"]]
    outputs = torch.full((12, 6, len(SYMBOLS)), -1e4)
    outputs[:, :, symbols] = 2 * torch.randn(12, 6, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 5, 4] * 4)
    found = search(outputs, lengths)
    rows = zip(outputs.log_softmax(-1), lengths.tolist(), strict=True)
    assert found == [best_of_all_paths(row[:frames], symbols) for row, frames in rows]
    assert len(set(found)) > 3
    alone = [search(row[None, :frames], frames[None])[0] for row, frames in zip(outputs, lengths, strict=True)]
    assert found == alone


def test_the_language_model_decides_what_the_sound_leaves_open(model: str, lexicon: str) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    outputs = torch.full((1, 4, len(SYMBOLS)), -9.0)
    for frame, symbols in enumerate(("B", "A", "|", "|")):
        outputs[0, frame, [INDEX[symbol] for symbol in symbols]] = 0.0
    outputs[0, 1, BLANK] = 0.3  # B is slightly more likely than BA, but a rare word
    assert BeamSearch(model, lexicon, BeamOptions(lm_weight=0.0), ENGLISH)(outputs, torch.tensor([4])) == ["B"]
    assert BeamSearch(model, lexicon, BeamOptions(), ENGLISH)(outputs, torch.tensor([4])) == ["BA"]


def test_error_rates_with_a_language_model_are_added_on_test_only(make_corpus: Make, model: str, lexicon: str) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    task = SpeechRecognition(make_corpus({"text": ["BA", "A"]}), lm=model, lexicon=lexicon)
    task.check()
    dev = task.metric()
    assert dev.compute().keys() == {"wer", "cer"}
    assert task.tune(dev) == {"language_model": True}
    metric, examples = task.metric(**task.tune(dev)), task.dataset("test")
    outputs = torch.full((2, 4, len(SYMBOLS)), -9.0)
    outputs[0, range(4), encode("BA")] = 5.0
    outputs[1, [0, 1, 2, 3], [INDEX["A"], INDEX["C"], INDEX["|"], BLANK]] = 5.0  # AC, which is no word
    metric.update(outputs, torch.tensor([4, 4]), examples.labels, examples.cuts.ids)
    found = metric.compute()
    assert (found["wer"], found["wer_lm"], found["cer_lm"]) == (50.0, 0.0, 0.0)
    assert [(r["hypothesis"], r["hypothesis_lm"], r["numerator"]) for r in metric.records()] == [
        ("BA", "BA", 0),
        ("AC", "A", 1),
    ]


def test_without_a_language_model_nothing_is_tuned(make_corpus: Make) -> None:
    task = SpeechRecognition(make_corpus({"text": ["BA"]}))
    assert task.tune(task.metric()) == {}


def test_what_is_missing_is_one_clear_line(
    make_corpus: Make, model: str, lexicon: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus({"text": ["BA"]})
    with pytest.raises(UserError, match=r"task\.lm needs task\.lexicon"):
        SpeechRecognition(corpus, lm=model)
    with pytest.raises(UserError, match=r"task\.lexicon needs task\.lm"):
        SpeechRecognition(corpus, lexicon=lexicon)
    with pytest.raises(UserError, match=r"task\.lm=none\.arpa cannot be read"):
        SpeechRecognition(corpus, lm="none.arpa", lexicon=lexicon).check()
    (tmp_path / "bad.arpa").write_text("A fine day")
    with pytest.raises(UserError, match="is no n-gram model"):
        SpeechRecognition(corpus, lm=str(tmp_path / "bad.arpa"), lexicon=lexicon).check()
    with pytest.raises(UserError, match=r"task\.lexicon=none cannot be read"):
        SpeechRecognition(corpus, lm=model, lexicon="none").check()
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    monkeypatch.delitem(sys.modules, "flashlight.lib.text.decoder", raising=False)
    with pytest.raises(UserError, match="pip install flashlight-text"):
        SpeechRecognition(corpus, lm=model, lexicon=lexicon).check()


def test_a_damaged_model_is_one_clear_line(lexicon: str, tmp_path: Path) -> None:
    pytest.importorskip("flashlight.lib.text.decoder")
    path = tmp_path / "cut.arpa"
    path.write_text("\\data\\\nngram 1=5\n")
    check_model(path)
    with pytest.raises(UserError, match="that KenLM can read") as error:
        BeamSearch(path, lexicon, OPTIONS, ENGLISH)
    assert "\n" not in str(error.value)


def test_lexicons(tmp_path: Path) -> None:
    path = tmp_path / "lexicon"
    path.write_text("ON O N |\n\nREAD\tR E A D |\nREAD\tR E D |\n")
    assert read_spellings(path, ENGLISH) == {
        "ON": [["O", "N", "|"]],
        "READ": [["R", "E", "A", "D", "|"], ["R", "E", "D", "|"]],
    }
    for wrong, message in (("ON o n |", "line 1 of .*ON o n"), ("ON", "line 1"), ("\n", "has no words")):
        path.write_text(wrong)
        with pytest.raises(UserError, match=message):
            read_spellings(path, ENGLISH)
