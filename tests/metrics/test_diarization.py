import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from speechssl.metrics.diarization import (
    SETTINGS,
    DiarizationErrors,
    count_errors,
    median_filter,
    right_frames,
    segments,
)

TRUTH = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [0, 0]])
FOUND = torch.tensor([[1, 0], [1, 1], [1, 0], [0, 1], [1, 0]])


def everything(frames: Tensor) -> Tensor:
    return torch.ones(frames.shape[:2], dtype=torch.bool)


def test_hand_computed() -> None:
    counts = count_errors(FOUND[None] > 0, TRUTH[None] > 0, everything(TRUTH[None]))
    assert counts.tolist() == [[1, 2, 0, 5]]
    swapped = count_errors(FOUND[None].flip(-1) > 0, TRUTH[None] > 0, everything(TRUTH[None]))
    assert swapped.tolist() == [[1, 2, 0, 5]]


def test_confusion_is_speech_of_the_wrong_speaker() -> None:
    found, truth = torch.tensor([[[1, 0]] * 4]) > 0, torch.tensor([[[1, 0]] * 3 + [[0, 1]]]) > 0
    assert count_errors(found, truth, everything(truth)).tolist() == [[0, 0, 1, 4]]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_equals_counting_frame_by_frame(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    found, truth = (torch.rand(2, 3, 12, count, generator=generator) > 0.5).unbind()
    lengths = [12, 7, 1]
    valid = torch.arange(12) < torch.tensor(lengths)[:, None]
    counts, right = count_errors(found, truth, valid), right_frames(found, truth, valid)
    for row, frames in enumerate(lengths):
        a, b = found[row, :frames].numpy(), truth[row, :frames].numpy()
        orders = [list(order) for order in permutations(range(count))]
        matched = max(sum((a[:, order] & b).sum(1)) for order in orders)
        speakers, voices = b.sum(1), a.sum(1)
        expected = [
            np.maximum(speakers - voices, 0).sum(),
            np.maximum(voices - speakers, 0).sum(),
            np.minimum(speakers, voices).sum() - matched,
            speakers.sum(),
        ]
        assert counts[row].tolist() == expected
        assert float(right[row]) == max((a[:, order] == b).sum() for order in orders)


def test_counts_equal_s3prls_where_the_order_is_right() -> None:
    s3prl: Any = pytest.importorskip("s3prl.downstream.diarization.utils", exc_type=ImportError)
    generator = torch.Generator().manual_seed(0)
    truth = (torch.rand(3, 20, 2, generator=generator) > 0.5).float()
    logits = 2 * truth - 1 + 0.9 * torch.randn(3, 20, 2, generator=generator)
    lengths = torch.tensor([20, 11, 4])
    correct, frames, *_, scored, miss, false_alarm, confusion = s3prl.calc_diarization_error(logits, truth, lengths)
    valid = torch.arange(20) < lengths[:, None]
    found = count_errors(logits > 0, truth > 0, valid).sum(dim=0).tolist()
    assert found == [miss, false_alarm, confusion, scored]
    assert float(right_frames(logits > 0, truth > 0, valid).sum()) == 2 * correct
    assert frames == 35


def test_median_filter() -> None:
    speech = torch.zeros(40, 2, dtype=torch.bool)
    speech[5:10, 0] = True  # a spike of 5 frames
    speech[15:35, 1] = True
    filtered = median_filter(speech, 11)
    assert not filtered[:, 0].any()
    assert torch.equal(filtered[:, 1], speech[:, 1])
    assert torch.equal(median_filter(speech, 1), speech)


def test_median_filter_equals_scipys() -> None:
    medfilt = pytest.importorskip("scipy.signal").medfilt
    speech = torch.rand(2, 50, 2, generator=torch.Generator().manual_seed(0)) > 0.4
    for row, own in zip(speech, median_filter(speech, 11), strict=True):
        assert np.array_equal(own.numpy(), medfilt(row.numpy().astype(float), (11, 1)) > 0.5)


def filled(metric: DiarizationErrors, lengths: list[int], seed: int = 0, batched: bool = True) -> DiarizationErrors:
    generator = torch.Generator().manual_seed(seed)
    for row, frames in enumerate(lengths):
        truth = (torch.rand(frames, 2, generator=generator) > 0.5).repeat_interleave(2, dim=0)[:frames].float()
        logits = 2 * (truth.flip(-1) - 0.5) + torch.randn(frames, 2, generator=generator)
        labels = {"targets": [truth], "seconds": [0.02], "activity": [[["a", 0.0, 1.0]]]}
        padding = torch.full((1, 5 if batched else 0, 2), 3.0)
        padded = torch.cat([logits[None], padding], dim=1)
        metric.update(padded, torch.tensor([frames]), labels, [f"r{row}"])
    return metric


def test_padding_changes_nothing() -> None:
    lengths = [30, 12, 50]
    assert (
        filled(DiarizationErrors(), lengths).compute() == filled(DiarizationErrors(), lengths, batched=False).compute()
    )


@pytest.mark.parametrize("setting", [(0.4, 11), (0.5, 1), (0.45, 3)])
def test_all_settings_at_once_equal_one_by_one(setting: tuple[float, int]) -> None:
    metric = filled(DiarizationErrors(*setting), [30, 12, 50])
    computed, rates = metric.compute(), metric.rates()
    assert tuple(rates) == SETTINGS
    for other in SETTINGS:
        assert filled(DiarizationErrors(*other), [30, 12, 50]).compute()["der"] == rates[other]
    if setting in rates:
        assert computed["der"] == rates[setting]
    assert computed["der_test_selected"] == min(rates.values())
    assert computed["der"] == pytest.approx(sum(computed[kind] for kind in ("miss", "false_alarm", "confusion")))
    records = json.loads(json.dumps(metric.records()))
    ratio = sum(record["numerator"] for record in records) / sum(record["denominator"] for record in records)
    assert computed["der"] == pytest.approx(100 * ratio)
    assert [record["id"] for record in records] == ["r0", "r1", "r2"]


def test_a_perfect_answer_and_none() -> None:
    truth = TRUTH.float()
    labels = {"targets": [truth], "seconds": [0.01], "activity": [[]]}
    metric = DiarizationErrors()
    metric.update(20 * truth.flip(-1)[None] - 10, torch.tensor([5]), labels, ["a"])
    assert metric.compute() == {
        "der": 0.0,
        "der_test_selected": 0.0,
        "miss": 0.0,
        "false_alarm": 0.0,
        "confusion": 0.0,
        "frame_acc": 100.0,
    }
    assert metric.records()[0]["hypothesis"] == [["0", 0.02, 0.04], ["1", 0.0, 0.03]]
    metric = DiarizationErrors()
    metric.update(torch.full((1, 5, 2), -9.0), torch.tensor([5]), labels, ["a"])
    assert (metric.compute()["der"], metric.compute()["miss"]) == (100.0, 100.0)
    assert DiarizationErrors().compute()["der"] == 0.0


def test_segments_reach_to_both_ends() -> None:
    speech = torch.tensor([[1, 0], [1, 0], [0, 1], [1, 1]]) > 0
    assert segments(speech, 0.5) == [["0", 0.0, 1.0], ["0", 1.5, 2.0], ["1", 1.0, 2.0]]
