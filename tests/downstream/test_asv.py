"""Speaker verification: trials from columns and lists, what is refused, and a head that learns voices."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from speechssl.downstream.asv.dataset import listed_trials
from speechssl.downstream.asv.task import SpeakerVerification
from speechssl.errors import UserError

TRIALS = [[["b", 1], ["c", 0]], None, [["a", 0]], None]


class Table:
    """The part of a cut table that tasks use."""

    def __init__(self, ids: list[str], seconds: list[float], **columns: list):
        self.ids, self.num_samples, self.columns = ids, (16000 * np.array(seconds)).astype(int), columns

    def column(self, name: str) -> list:
        return self.columns.get(name, [None] * len(self.ids))

    def select(self, indices: list[int]) -> "Table":
        columns = {name: [values[i] for i in indices] for name, values in self.columns.items()}
        return Table([self.ids[i] for i in indices], self.num_samples[indices] / 16000, **columns)


def corpus(
    trials: list | None = TRIALS, ids: str = "abcd", speakers: str = "xxyy", left_out: Sequence[str] = ()
) -> Any:
    train = Table([f"t{i}" for i in range(6)], [3, 2, 2.5, 9, 1, 5], speaker=["p", "p", "q", "r", "s", None])
    table = Table(list(ids), [1.0] * len(ids), speaker=list(speakers))
    if trials is not None:
        table.columns["trials"] = trials
    tables = {"train": train, "dev": table, "test": table}
    return SimpleNamespace(name="made-up", table=tables.__getitem__, left_out=frozenset(left_out))


def test_train_utterances_are_longer_than_two_seconds_and_have_a_speaker() -> None:
    task = SpeakerVerification(corpus())
    assert task.classes == ["p", "q", "r"]
    train = task.dataset("train")
    assert train.cuts.ids == ["t0", "t2", "t3"]
    assert train.labels == {"class": [0, 1, 2], "reference": ["p", "q", "r"]}
    assert SpeakerVerification(corpus(), min_seconds=0.5).classes == ["p", "q", "r", "s"]
    assert (task.crop_seconds, task.test_selected, task.weight_decay, task.clip_norm) == (8.0, 10, 0.01, 1000.0)


def test_trials_of_the_column() -> None:
    task = SpeakerVerification(corpus())
    task.check()
    test = task.dataset("test")
    assert test.cuts.ids == ["a", "b", "c"]  # "d" is in no trial
    assert test.labels == {"trials": [[("b", 1), ("c", 0)], None, [("a", 0)]]}
    assert (task.chance(), task.monitor, task.mode) == (50.0, "eer", "min")


def test_trials_of_a_list_by_id_and_by_path(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "1 x/one/1.wav trimmed-x-one-2\n\n0 x/one/1.wav y/two/1.wav\n0 plain x/one/2.wav\n"
    )
    ids = ["x-one-1", "trimmed-x-one-2", "y-two-1", "plain", "other"]
    table = Table(ids, [1.0] * 5, speaker=["x", "x", "y", "z", "z"])
    made = corpus()
    tables = {"train": made.table("train"), "dev": made.table("dev"), "test": table}
    task = SpeakerVerification(
        SimpleNamespace(name="made-up", table=tables.__getitem__, left_out=frozenset()),
        trials={"test": str(tmp_path / "list.txt")},
    )
    task.check()
    assert task.trials("test") == {
        "x-one-1": [("trimmed-x-one-2", 1), ("y-two-1", 0)],
        "plain": [("trimmed-x-one-2", 0)],
    }
    assert task.dataset("test").cuts.ids == ids[:4]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1 a gone/x.wav\n0 a c\n1 nowhere b\n", "names 2 utterances that are not there, such as gone/x.wav"),
        ("1 a b\n2 a c\n", r"line 2: expected 1 FIRST SECOND.* found '2 a c'"),
        ("1 a b c\n", "line 1: expected"),
        ("\n", "is empty"),
        (None, "cannot be read"),
    ],
)
def test_bad_lists_are_one_clear_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message):
        SpeakerVerification(corpus(), trials={"dev": str(path)}).check()


def test_one_unreadable_utterance_does_not_stop_the_task(tmp_path: Path) -> None:
    trials = [[["b", 1], ["c", 0], ["gone", 1]], None, [["a", 0]], None]
    with pytest.raises(UserError, match="name 1 utterances that are not in that split, such as gone"):
        SpeakerVerification(corpus(trials)).check()
    SpeakerVerification(corpus(trials, left_out=["gone"])).check()
    path = tmp_path / "list.txt"
    path.write_text("1 a b\n0 a x/gone.wav\n0 x/gone.wav b\n0 b c\n")
    with pytest.raises(UserError, match=r"names 1 utterances that are not there, such as x/gone\.wav"):
        SpeakerVerification(corpus(), trials={"dev": str(path)}).check()
    SpeakerVerification(corpus(left_out=["x-gone"]), trials={"dev": str(path)}).check()
    with pytest.raises(UserError, match="the 1 trials in dev of made-up are all of one speaker"):
        SpeakerVerification(corpus([[["b", 1], ["gone", 0]], None, None, None], left_out=["gone"])).check()


def test_a_path_that_several_ids_end_with_is_not_guessed(tmp_path: Path) -> None:
    ids = ["one-x-1", "two-x-1", "three-y-1"]
    (tmp_path / "list.txt").write_text("1 y/1.wav three-y-1\n")
    assert listed_trials(tmp_path / "list.txt", ids) == {"three-y-1": [("three-y-1", 1)]}
    (tmp_path / "list.txt").write_text("1 x/1.wav three-y-1\n")
    with pytest.raises(UserError, match=r"not there, such as x/1\.wav"):
        listed_trials(tmp_path / "list.txt", ids)


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        (corpus(None), {}, "dev of made-up has no trials .column 'trials'"),
        (
            corpus([[["e", 1], ["c", 0]], None, None, None]),
            {},
            "name 1 utterances that are not in that split, such as e",
        ),
        (corpus([[["b", 1]], None, None, None]), {}, "1 trials in dev of made-up are all of one speaker"),
        (corpus([[["c", 0]], None, None, None]), {}, "all of different speakers"),
        (corpus([[["b", 1], ["c", 1]], None, [["a", 0]], None]), {}, "have a and c as the same speaker, against"),
        (corpus(), {"min_seconds": 8.5}, "at least two speakers .* found 1"),
        (corpus(), {"label": "voice"}, "at least two speakers .column 'voice'"),
        (corpus(), {"trials": {"train": "x"}}, "lists for dev and test, found train"),
    ],
)
def test_what_would_fail_later_is_refused_at_once(source: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SpeakerVerification(source, **settings).check()


def test_a_head_learns_voices_and_verifies_new_ones() -> None:
    """Speakers differ in the direction of their frames; those of the trials were never trained on."""
    generator = torch.Generator().manual_seed(0)
    voices = torch.randn(20, 12, generator=generator)

    def said(speakers: list[int], frames: int = 24) -> torch.Tensor:
        noise = 1.5 * torch.randn(len(speakers), frames, 12, generator=generator)
        return voices[speakers][:, None] + noise

    names = [f"s{i}" for i in range(14)]
    train = Table([f"t{i}" for i in range(14)], [3.0] * 14, speaker=names)
    task = SpeakerVerification(SimpleNamespace(name="", table={"train": train}.get), width=32, pooled_size=48)
    order = [task.index[name] for name in names]
    torch.manual_seed(0)
    head, lengths = task.head(12, 160), torch.full((14,), 24)
    optimizer = torch.optim.AdamW(head.parameters(), lr=3e-3, weight_decay=task.weight_decay)
    first = last = 0.0
    for _ in range(60):
        outputs, _ = head(said(list(range(14))), lengths)
        values = task.loss(outputs, lengths, {"class": order})
        optimizer.zero_grad()
        values["loss"].backward()
        optimizer.step()
        last = float(values["loss"].detach())
        first = first or last
    assert last < first / 2
    metric = task.metric()
    speakers = [14 + i % 6 for i in range(24)]
    ids = [f"u{i}" for i in range(24)]
    pairs = [[[ids[j], int(speakers[i] == speakers[j])] for j in range(i + 1, 24)] for i in range(24)]
    with torch.no_grad():
        outputs, lengths = head.eval()(said(speakers, 40), torch.full((24,), 40))
    metric.update(outputs, lengths, {"trials": pairs}, ids)
    assert metric.compute()["eer"] < 25.0
