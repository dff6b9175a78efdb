"""Entities as multisets: hand-computed, against a plain loop, weighted and rebuilt from records."""

import json
import random

import numpy as np
import pytest
import torch

from speechssl.metrics.entity_f1 import EntityF1, from_records, matches

Entities = list[tuple[str, str]]
PARIS, ROME, MAY = ("PLACE", "PARIS"), ("PLACE", "ROME"), ("DATE", "MAY")


def score(references: list[Entities], found: list[Entities]) -> EntityF1:
    metric = EntityF1(lambda outputs, lengths: found, lambda entities: entities, str)
    ids = [str(i) for i in range(len(references))]
    metric.update(torch.zeros(0), torch.zeros(0), {"reference": references}, ids)
    return metric


def test_hand_computed() -> None:
    found = score([[PARIS, PARIS, MAY], []], [[PARIS, ROME], [MAY]]).compute()
    assert found["f1"] == pytest.approx(100 * 2 * 1 / (3 + 3))
    assert found["label_f1"] == pytest.approx(100 * 2 * 2 / (3 + 3))
    assert (found["precision"], found["recall"]) == (pytest.approx(100 / 3), pytest.approx(100 / 3))


def test_order_does_not_matter_and_repetition_does() -> None:
    assert score([[PARIS, MAY]], [[MAY, PARIS]]).compute()["f1"] == 100.0
    assert matches([PARIS, PARIS], [PARIS]) == 1
    assert matches([PARIS], [PARIS, PARIS]) == 1
    assert score([[]], [[]]).compute() == {"f1": 0.0, "label_f1": 0.0, "precision": 0.0, "recall": 0.0}


def test_weights_equal_repeated_utterances_also_from_records() -> None:
    generator = random.Random(0)
    draws = [generator.choices([PARIS, ROME, MAY], k=generator.randint(0, 3)) for _ in range(40)]
    references, found = draws[:20], draws[20:]
    metric = score(references, found)
    weights = np.random.default_rng(0).integers(0, 3, (4, 20))
    rebuilt = from_records(json.loads(json.dumps(metric.records())))
    for row, value in zip(weights, metric.main(weights), strict=True):
        repeated = [number for number, count in enumerate(row) for _ in range(count)]
        expected = score([references[n] for n in repeated], [found[n] for n in repeated]).compute()["f1"]
        assert value == pytest.approx(expected)
    np.testing.assert_array_equal(metric.main(weights), rebuilt.main(weights))
    assert rebuilt.cells > 0
    assert metric.main(np.ones((1, 20)))[0] == pytest.approx(metric.compute()["f1"])
    assert metric.main(np.zeros((1, 20)))[0] == 0.0
