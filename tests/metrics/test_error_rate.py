import itertools
import random

import jiwer
import pytest
import torch

from speechssl.metrics.error_rate import ErrorRates, TokenErrorRate, edit_distance


def score(references: list[str], hypotheses: list[str]) -> ErrorRates:
    metric = ErrorRates(lambda outputs, lengths: hypotheses)
    ids = [str(i) for i in range(len(references))]
    metric.update(torch.zeros(0), torch.zeros(0), {"reference": references}, ids)
    return metric


def test_hand_computed_case_is_averaged_over_words() -> None:
    metric = score(["THE CAT SAT ON", "HELLO WORD", "B C D"], ["THE CAT SAT", "HELLO WORLD", "A"])
    assert metric.compute()["wer"] == pytest.approx(100 * 5 / 9)  # the mean over utterances would be 58.333
    records = metric.records()
    assert [record["numerator"] for record in records] == [1, 1, 3]
    assert [record["denominator"] for record in records] == [4, 2, 3]
    assert records[1]["hypothesis"] == "HELLO WORLD"


def test_empty_hypotheses_are_deletions_and_empty_references_do_not_divide_by_zero() -> None:
    assert score(["A B", "C"], ["", ""]).compute() == {"wer": 100.0, "cer": 100.0}
    assert score([""], [""]).compute() == {"wer": 0.0, "cer": 0.0}
    assert score([], []).compute() == {"wer": 0.0, "cer": 0.0}
    assert score([""], ["A B"]).compute()["wer"] == 200.0


def test_agrees_with_jiwer() -> None:
    generator = random.Random(0)
    words = ["one", "two", "three", "for", "four"]
    text = [" ".join(generator.choices(words, k=generator.randint(1, 6))) for _ in range(40)]
    references, hypotheses = text[:20], text[20:]
    found = score(references, hypotheses).compute()
    assert found["wer"] == pytest.approx(100 * jiwer.wer(references, hypotheses))
    assert found["cer"] == pytest.approx(100 * jiwer.cer(references, hypotheses))


def test_edit_distance_is_minimal() -> None:
    def slow(a: tuple, b: tuple) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(slow(a[1:], b) + 1, slow(a, b[1:]) + 1, slow(a[1:], b[1:]) + (a[0] != b[0]))

    sequences = [tuple(s) for n in range(4) for s in itertools.product("ab", repeat=n)]
    for a, b in itertools.product(sequences, sequences):
        assert edit_distance(a, b) == slow(a, b)


def test_tokens_are_averaged_over_the_corpus() -> None:
    found = [["K", "AE1"], []]
    metric = TokenErrorRate(lambda outputs, lengths: found, "per")
    assert metric.compute() == {"per": 0.0}
    labels = {"reference": [["K", "AE1", "T"], ["S"]]}
    metric.update(torch.zeros(0), torch.zeros(0), labels, ["a", "b"])
    assert metric.compute() == {"per": 50.0}  # the mean over utterances would be 66.7
    assert [record["numerator"] for record in metric.records()] == [1, 1]
    assert metric.records()[0]["reference"] == "K AE1 T"
