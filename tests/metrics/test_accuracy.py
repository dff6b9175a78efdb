import pytest
import torch

from speechssl.metrics.accuracy import Accuracy


def test_counts_and_records() -> None:
    metric = Accuracy(["no", "yes"])
    assert metric.compute() == {"acc": 0.0}
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    metric.update(scores, torch.ones(3), {"reference": ["yes", "yes", "never heard"]}, ["a", "b", "c"])
    assert metric.compute()["acc"] == pytest.approx(100 / 3)
    assert metric.records()[1] == {
        "id": "b",
        "reference": "yes",
        "hypothesis": "no",
        "numerator": 0,
        "denominator": 1,
    }
