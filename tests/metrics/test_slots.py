"""Slot scores against hand-computed cases and s3prl."""

import random
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from rapidfuzz.distance import Levenshtein

from speechssl.metrics.slots import SlotScores, type_f1

Slots = list[tuple[str, str]]


def score(references: Sequence[Slots], found: Sequence[Slots]) -> SlotScores:
    metric = SlotScores(lambda outputs, lengths: found, lambda slots: slots, written)
    ids = [str(i) for i in range(len(references))]
    metric.update(torch.zeros(0), torch.zeros(0), {"reference": references}, ids)
    return metric


def written(slots: Slots) -> str:
    return " ".join(f"B-{name} {value} E-{name}" for name, value in slots)


PARIS = [("city", "PARIS")]


def test_right_slot() -> None:
    perfect = {"slot_type_f1": 100.0, "slot_value_cer": 0.0, "slot_value_wer": 0.0, "slot_edit_f1": 100.0}
    assert score([PARIS], [PARIS]).compute() == perfect


def test_missing_slot_and_no_slots_at_all() -> None:
    found = score([PARIS], [[]]).compute()
    assert found == {"slot_type_f1": 0.0, "slot_value_cer": 100.0, "slot_value_wer": 100.0, "slot_edit_f1": 0.0}
    assert score([[]], [[]]).compute()["slot_type_f1"] == 100.0
    assert score([[]], [PARIS]).compute()["slot_type_f1"] == 0.0
    assert score([], []).compute()["slot_type_f1"] == 0.0


def test_names_are_a_set_and_the_nearest_value_counts() -> None:
    reference = [("city", "PARIS"), ("city", "ROME")]
    found = score([reference], [[("city", "ROMA"), ("city", "PARI"), ("city", "X")]]).compute()
    assert found["slot_type_f1"] == 100.0
    assert found["slot_value_cer"] == pytest.approx(100 * 2 / 9)
    assert found["slot_value_wer"] == 100.0
    assert type_f1([("a", ""), ("a", "")], [("a", ""), ("b", "")]) == pytest.approx(2 / 3)


def test_slot_type_f1_is_the_mean_over_utterances() -> None:
    metric = score([PARIS, PARIS * 2, []], [PARIS, [("time", "NOW"), ("city", "X")], []])
    assert metric.compute()["slot_type_f1"] == pytest.approx(100 * (1 + 2 / 3 + 1) / 3)
    records = metric.records()
    assert [record["denominator"] for record in records] == [1, 1, 1]
    assert records[1]["numerator"] == pytest.approx(2 / 3)
    assert records[0]["hypothesis"] == "B-city PARIS E-city"


def test_agrees_with_s3prl(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = SimpleNamespace(eval=Levenshtein.distance)  # s3prl only needs this function of the package
    monkeypatch.setitem(sys.modules, "editdistance", stand_in)
    reference = pytest.importorskip("s3prl.metric.slot_filling", exc_type=ImportError)
    generator = random.Random(0)

    def draw() -> Slots:
        names = generator.choices("abcd", k=generator.randint(0, 4))
        return [(name, " ".join(generator.choices(["ONE", "TWO", "TOO"], k=generator.randint(1, 3)))) for name in names]

    wanted = [draw() for _ in range(200)]
    found = [draw() if generator.random() < 0.7 else list(slots) for slots in wanted]
    texts = [written(slots) for slots in found], [written(slots) for slots in wanted]
    ours = score(wanted, found).compute()
    assert ours["slot_type_f1"] == pytest.approx(100 * reference.slot_type_f1(*texts))
    assert ours["slot_value_cer"] == pytest.approx(100 * reference.slot_value_cer(*texts))
    assert ours["slot_edit_f1"] == pytest.approx(100 * reference.slot_edit_f1_full(*texts))
    assert ours["slot_value_wer"] == pytest.approx(100 * reference.slot_value_wer(*texts), rel=0.02)  # ties differ
