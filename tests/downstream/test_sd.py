"""Diarization: labels at any frame rate, the head, choices on dev, and what is refused."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechssl.downstream.sd.dataset import frame_activity
from speechssl.downstream.sd.head import LstmHead
from speechssl.downstream.sd.task import Diarization
from speechssl.errors import UserError

TALK = [["ann", 0.0, 0.5], ["bob", 0.4, 1.0], ["ann", 0.9, 1.0]]


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, ids: list[str], seconds: list[float], activity: list):
        self.ids, self.num_samples, self.activity = ids, (16000 * np.array(seconds)).astype(int), activity

    def column(self, name: str) -> list:
        return self.activity if name == "activity" else [None] * len(self.ids)

    def select(self, indices: list[int]) -> "Table":
        chosen = [self.activity[i] for i in indices]
        return Table([self.ids[i] for i in indices], self.num_samples[indices] / 16000, chosen)


def corpus(dev: list, train: tuple = (TALK, None, [["ann", 0.0, 1.0]]), seconds: float = 1.0) -> Any:
    tables = {"train": Table([f"t{i}" for i in range(len(train))], [seconds] * len(train), list(train))}
    tables["dev"] = tables["test"] = Table(["d"], [seconds], [dev])
    return SimpleNamespace(name="made-up", table=tables.__getitem__)


@pytest.mark.parametrize("rate", [160, 320, 640])
def test_labels_lie_at_the_frames_of_the_features(rate: int) -> None:
    frames = 16000 // rate
    targets = frame_activity(TALK, 3, 0, frames, rate)
    expected = torch.zeros(frames, 3)
    for column, begin, end in [(0, 0.0, 0.5), (1, 0.4, 1.0), (0, 0.9, 1.0)]:
        expected[round(begin * 16000 / rate) : round(end * 16000 / rate), column] = 1
    assert torch.equal(targets, expected)


def test_windows_are_parts_of_the_whole() -> None:
    whole = frame_activity(TALK, 2, 0, 120, 160)
    assert torch.equal(frame_activity(TALK, 2, 30, 50, 160), whole[30:80])
    assert not whole[100:].any()  # frames beyond the end of the recording are silent
    assert not frame_activity([], 2, 0, 5, 160).any()


def test_targets_of_a_batch() -> None:
    task = Diarization(corpus(TALK))
    assert (task.num_speakers, len(task.dataset("train").cuts.ids)) == (2, 2)
    found = task.frame_targets({"activity": [TALK, []]}, [10, 0], [40, 7], 320)
    assert [tuple(t.shape) for t in found["targets"]] == [(40, 2), (7, 2)]
    assert torch.equal(found["targets"][0], frame_activity(TALK, 2, 10, 40, 320))
    assert found["seconds"] == [0.02, 0.02]


def test_published_size() -> None:
    with torch.device("meta"):
        head = Diarization(corpus(TALK)).head(768, 320)
    assert sum(p.numel() for p in head.parameters()) == 2_626_562


@pytest.mark.parametrize("stack", [1, 3])
def test_padding_changes_nothing(stack: int) -> None:
    torch.manual_seed(0)
    head = LstmHead(6, 2, lstm_size=8, stack=stack)
    features, lengths = torch.randn(8, 20, 6), torch.tensor([20, 1, 7, 19, 12, 3, 18, 5])
    together, frames = head(features, lengths)
    assert together.shape == (8, 20, 2)
    assert torch.equal(frames, lengths)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(together[i, :n], head(features[i : i + 1, :n], n[None])[0][0], atol=1e-5, rtol=0)


def test_frames_are_joined_up_to_a_duration() -> None:
    task = Diarization(corpus(TALK), frame_ms=50.0)
    assert [task.head(4, rate).stack for rate in (160, 320, 1600)] == [5, 2, 1]


def learned(task: Diarization) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, dict]:
    """Train on features that are the speakers' voices, in an order that tells nothing."""
    generator = torch.Generator().manual_seed(1)
    activity = [[["a", 0.0, 0.6], ["b", 0.5, 1.0]], [["b", 0.1, 0.3], ["a", 0.3, 0.9]]] * 8
    labels = task.frame_targets({"activity": activity}, [0] * 16, [50] * 16, 320)
    features = torch.stack(labels["targets"]) @ torch.randn(2, 6, generator=generator)
    features = features + 0.3 * torch.randn(16, 50, 6, generator=generator)
    labels["targets"] = [t.flip(-1) if i % 2 else t for i, t in enumerate(labels["targets"])]
    torch.manual_seed(0)
    head, lengths = task.head(6, 320), torch.full((16,), 50)
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-2)
    for _ in range(60):
        outputs, _ = head(features, lengths)
        optimizer.zero_grad()
        task.loss(outputs, lengths, labels)["loss"].backward()
        optimizer.step()
    return head, features, lengths, labels


def test_a_head_learns_who_speaks_when_and_dev_chooses_the_setting() -> None:
    task = Diarization(corpus(TALK), lstm_size=16)
    head, features, lengths, labels = learned(task)
    metric = task.metric()
    metric.update(head(features, lengths)[0], lengths, labels, [str(i) for i in range(16)])
    found, rates, choices = metric.compute(), metric.rates(), task.tune(metric)
    assert found["der"] < 20.0 < task.chance()
    assert found["frame_acc"] > 90.0
    assert rates[choices["threshold"], choices["median"]] == min(rates.values())
    chosen = task.metric(**choices)
    chosen.update(head(features, lengths)[0], lengths, labels, [str(i) for i in range(16)])
    assert chosen.compute()["der"] == found["der_test_selected"]
    assert (task.selector, task.monitor) == (("frame_acc", "max"), "der")


def test_chance_is_the_constant_answer_that_is_best_on_train() -> None:
    # Test has 0.6 + 0.6 s of speech in 1 s. With one voice all the time 0.2 s are missed, 0.4 s are of the other one.
    assert Diarization(corpus(TALK)).chance() == pytest.approx(100 * (0.2 + 0.4) / 1.2)
    silent = ([["ann", 0.0, 0.05], ["bob", 0.0, 0.05]],)
    assert Diarization(corpus(TALK, silent)).chance() == 100.0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (corpus([]), "no speech in dev of made-up .column 'activity'"),
        (
            corpus([["ann", 0.5, 1.2]]),
            r"d in dev of made-up is 1.00 s long, its speech \['ann', 0.5, 1.2\] is not inside",
        ),
        (corpus([["ann", 0.5, 0.4]]), "not inside"),
        (corpus([["a", 0, 1], ["b", 0, 1], ["c", 0, 1]]), "has 3 speakers, train has at most 2"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(source: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Diarization(source).check()


def test_a_corpus_without_activity_is_refused() -> None:
    with pytest.raises(UserError, match=r"no speech in train .* expected lists of .speaker, start, end."):
        Diarization(corpus(TALK, (None, None)))
    for strange in ("ann", ["ann"], [["ann", 0.1]], [["ann", "0", "1"]]):
        with pytest.raises(UserError, match=r"expects lists of .speaker, start, end. .* in train of made-up"):
            Diarization(corpus(TALK, (strange, TALK)))
    with pytest.raises(UserError, match="at most 6 speakers in a recording, found 7"):
        Diarization(corpus(TALK, ([[str(i), 0.0, 1.0] for i in range(7)],)))
    Diarization(corpus(TALK)).check()
