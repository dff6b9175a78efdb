"""What tasks say of outputs whose answer is known beforehand."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.downstream.aec.task import AudioEventClassification
from speechssl.downstream.asr.task import SpeechRecognition
from speechssl.downstream.asv.task import SpeakerVerification
from speechssl.downstream.ic.task import IntentClassification
from speechssl.downstream.ks.task import KeywordSpotting
from speechssl.downstream.ner.task import NamedEntities
from speechssl.downstream.pr.task import PhonemeRecognition
from speechssl.downstream.qbe.task import QueryByExample
from speechssl.downstream.sd.task import Diarization
from speechssl.interfaces import Remembered
from speechssl.metrics.equal_error_rate import TrialErrors

ONE = torch.tensor([1])


def remembered(**facts: object) -> Remembered:
    return Remembered("made-up", facts)


def path(symbols: list[str], said: list[str], blank: int = 0) -> Tensor:
    """Scores (1, T, V) whose best path is `said`, "" = blank, each with the probability 0.9."""
    numbers = [symbols.index(one) if one else blank for one in said]
    outputs = torch.full((1, len(said), len(symbols)), math.log(0.1 / (len(symbols) - 1)))
    outputs[0, torch.arange(len(said)), numbers] = math.log(0.9)
    return outputs


def test_one_label() -> None:
    task = KeywordSpotting(remembered(classes=["no", "up", "yes"]))
    (found,) = task.predictions(torch.tensor([[0.1, 0.7, 0.2]]).log(), ONE, 0.01)
    assert found["label"] == "up"
    assert found["score"] == pytest.approx(0.7)
    assert list(found["scores"]) == ["up", "yes", "no"]
    assert found["scores"]["no"] == pytest.approx(0.1)


def test_several_labels() -> None:
    task = AudioEventClassification(remembered(column=["labels", True], classes=["bell", "dog", "rain"]))
    outputs = torch.logit(torch.tensor([[0.2, 0.9, 0.6]]))
    (found,) = task.predictions(outputs, ONE, 0.01)
    assert found["labels"] == ["dog", "rain"]
    assert list(found["scores"].values()) == pytest.approx([0.9, 0.6, 0.2])
    (strict,) = task.predictions(outputs, ONE, 0.01, threshold=0.7)
    assert strict["labels"] == ["dog"]


def test_slots_of_an_intent() -> None:
    task = IntentClassification(
        remembered(classes=["action=off", "action=on", "object=lamp", "object=music", "object=none"])
    )
    outputs = torch.tensor([[0.4, 0.6, 0.1, 0.2, 0.7]]).log()
    (found,) = task.predictions(outputs, ONE, 0.01)
    assert {slot: value["label"] for slot, value in found["slots"].items()} == {"action": "on", "object": "none"}
    assert found["slots"]["action"]["scores"] == pytest.approx({"on": 0.6, "off": 0.4})


def test_words_with_times() -> None:
    """Three frames of 10 ms are one output; a word begins with its first letter and ends with its last."""
    task = SpeechRecognition(remembered(), frame_ms=30.0)
    said = ["", "O", "N", "N", "", "|", "", "O", "", "</s>"]
    (found,) = task.predictions(path(list(task.symbols), said), torch.tensor([10]), 0.01)
    assert (found["text"], found["score"]) == ("ON O", pytest.approx(0.9))
    assert [(one["label"], one["start"], one["end"]) for one in found["segments"]] == [
        ("ON", 0.03, 0.12),
        ("O", 0.21, 0.24),
    ]
    (silent,) = task.predictions(path(list(task.symbols), ["", "|", ""]), torch.tensor([3]), 0.01)
    assert silent == {"text": "", "score": None, "segments": []}


def test_an_alphabet_of_the_corpus_is_remembered() -> None:
    task = SpeechRecognition(remembered(letters=["Ä", "Ö"]), alphabet="corpus", language=None)
    (found,) = task.predictions(path(list(task.symbols), ["Ä", "Ö", "|", "Ä"]), torch.tensor([4]), 0.02)
    assert found["text"] == "ÄÖ Ä"


def test_phones_with_times() -> None:
    task = PhonemeRecognition(remembered())
    (found,) = task.predictions(path(list(task.symbols), ["HH", "", "AH0", "AH0", "<eos>"]), torch.tensor([5]), 0.02)
    assert found["text"] == "HH AH0"
    assert [(one["label"], one["start"], one["end"]) for one in found["segments"]] == [
        ("HH", 0.0, 0.02),
        ("AH0", 0.04, 0.08),
    ]


def test_spans_with_times() -> None:
    task = NamedEntities(remembered(names=["PLACE"]))
    said = ["I", "N", " ", "B-PLACE", "R", "O", "M", "E", "E-PLACE", " ", "A"]
    (found,) = task.predictions(path(task.symbols, said), torch.tensor([len(said)]), 0.1)
    assert (found["text"], found["tagged"]) == ("IN ROME A", "IN B-PLACE ROME E-PLACE A")
    assert found["segments"] == [
        {"label": "PLACE", "text": "ROME", "start": 0.4, "end": 0.8, "score": pytest.approx(0.9)}
    ]


def test_speakers_in_turn() -> None:
    """Two voices on frames of 20 ms; the second one's gap of a frame is closed by a filter of three."""
    task = Diarization(remembered(num_speakers=2))
    voices = torch.tensor([[0.9, 0.1], [0.9, 0.8], [0.2, 0.1], [0.1, 0.8], [0.1, 0.6], [0.9, 0.9]])
    (found,) = task.predictions(voices.logit()[None], torch.tensor([5]), 0.02)
    assert [(one["label"], one["start"], one["end"]) for one in found["segments"]] == [
        ("0", 0.0, 0.04),
        ("1", 0.02, 0.04),
        ("1", 0.06, 0.1),
    ]
    assert [one["score"] for one in found["segments"]] == pytest.approx([0.9, 0.8, 0.7], abs=1e-6)
    (smooth,) = task.predictions(voices.logit()[None], torch.tensor([5]), 0.02, threshold=0.5, median=3)
    assert [(one["label"], one["start"], one["end"]) for one in smooth["segments"]] == [
        ("0", 0.0, 0.04),
        ("1", 0.04, 0.1),
    ]


def test_the_threshold_of_voices_is_that_of_the_equal_error_rate() -> None:
    task, metric = SpeakerVerification(remembered(classes=["a", "b"])), TrialErrors()
    angles = torch.tensor([0.0, 0.1, 1.0, 1.2])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=-1)
    trials = {"trials": [[["1", 1], ["2", 0], ["3", 0]], None, [["3", 1]], None]}
    metric.update(embeddings, torch.ones(4), trials, ["0", "1", "2", "3"])
    assert task.tune(metric)["threshold"] == pytest.approx(math.cos(0.2), abs=1e-5)  # all targets, no others
    assert task.tune(TrialErrors()) == {}
    assert task.metric(threshold=0.3).compute()["trials"] == 0
    (found,) = task.predictions(embeddings[1:2], ONE, 0.01)
    assert found["embedding"] == pytest.approx([math.cos(0.1), math.sin(0.1)], abs=1e-6)


@pytest.mark.parametrize("documents", [1, 3])
def test_matches_of_queries(documents: int, make_query: Callable[[], Tensor]) -> None:
    query = make_query()
    there = [torch.cat([make_query(), query, make_query()]) for _ in range(documents - 1)] + [make_query()]
    found = QueryByExample(remembered()).search([query], there, 0.02)
    assert [len(row) for row in found] == [1] * documents
    if documents == 1:
        assert found[0][0]["score"] is None
        return
    assert (found[0][0]["start"], found[0][0]["end"]) == (0.16, 0.32)
    assert found[0][0]["cost"] == pytest.approx(0.0, abs=1e-5)
    assert np.mean([row[0]["score"] for row in found]) == pytest.approx(0.0, abs=1e-5)


@pytest.fixture
def make_query() -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(0)
    return lambda: torch.randn(8, 6, generator=generator)
