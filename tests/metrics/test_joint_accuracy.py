import torch

from speechssl.metrics.joint_accuracy import JointAccuracy


def test_counts_and_records() -> None:
    metric = JointAccuracy({"action": ["off", "on"], "place": ["attic", "hall", "none"]})
    assert metric.compute() == {"acc": 0.0, "acc_action": 0.0, "acc_place": 0.0}
    scores = torch.tensor([[0.1, 0.9, 0, 0, 1], [0.9, 0.1, 0, 1, 0], [0.9, 0.1, 0, 1, 0]])
    reference = [
        {"action": "on", "place": "none"},
        {"action": "on", "place": "hall"},
        {"action": "on", "place": "moon"},
    ]
    metric.update(scores, torch.ones(3), {"reference": reference}, ["a", "b", "c"])
    assert metric.compute() == {"acc": 100 / 3, "acc_action": 100 / 3, "acc_place": 100 * 2 / 3}
    assert metric.records()[1] == {
        "id": "b",
        "reference": {"action": "on", "place": "hall"},
        "hypothesis": {"action": "off", "place": "hall"},
        "numerator": 0,
        "denominator": 1,
    }
