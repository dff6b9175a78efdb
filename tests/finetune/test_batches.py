"""Which utterances come when, and what mixup makes of them."""

from itertools import islice

import numpy as np
import pytest
import torch

from speechssl.finetune.audio import LabelledAudio, Mixup
from speechssl.finetune.draws import Draws, class_balance, class_lists
from speechssl.finetune.stream import ScoringBatches, TrainBatches, join_examples
from speechssl.interfaces import DownstreamTask


def test_every_pass_holds_every_utterance_once_and_batches_are_full() -> None:
    draws = Draws(size=10, batch_size=4, seed=3)
    places = [place for number in range(5) for place in draws[number]]
    assert len(places) == 20
    for epoch in (0, 1):
        part = places[10 * epoch : 10 * (epoch + 1)]
        assert sorted(index for index, _ in part) == list(range(10))
        assert {number for _, number in part} == {epoch}
    assert [index for index, _ in places[:10]] != [index for index, _ in places[10:]]
    assert Draws(10, 4, 3)[3] == draws[3]
    assert Draws(10, 4, 4)[3] != draws[3]


def test_balanced_draws_have_even_classes() -> None:
    classes = [[0]] * 90 + [[1]] * 9 + [[2]]
    draws = Draws(100, 50, 0, class_balance(classes))
    drawn = np.array([index for number in range(120) for index, _ in draws[number]])
    shares = np.bincount([classes[index][0] for index in drawn]) / len(drawn)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)
    numbers = [number for k in range(3) for _, number in draws[k]]
    assert numbers == list(range(150))  # so that an utterance drawn twice is augmented anew


def test_balance_with_several_labels_sums_over_them() -> None:
    assert class_balance([[0], [0, 1], [0, 2], []]) == pytest.approx([1 / 3, 1 / 3 + 1, 1 / 3 + 1, 0.0])


def test_classes_are_found_by_their_names() -> None:
    assert class_lists({"class": [2, -1, 0]}) == [[2], [], [0]]
    assert class_lists({"classes": [[0, 2], []], "reference": []}) == [[0, 2], []]
    assert class_lists({"text": ["a"]}) is None


def audio_of(task: DownstreamTask, mixup: Mixup | None, **settings: float) -> LabelledAudio:
    examples = task.dataset("train")
    return LabelledAudio(examples, 0, classes=class_lists(examples.labels), num_classes=3, mixup=mixup, **settings)


def test_targets_are_the_classes(task: DownstreamTask) -> None:
    batch = audio_of(task, None)[[(0, 0), (4, 0)]]
    assert batch.ids == ["train-0", "train-4"]
    assert torch.equal(batch.labels["target"], torch.eye(3)[torch.tensor(batch.labels["class"])])


def test_mixup_adds_waveforms_and_labels_in_the_same_shares(task: DownstreamTask) -> None:
    places = [(index, 0) for index in range(30)]
    plain, mixed = audio_of(task, None)[places], audio_of(task, Mixup(1.0, 10))[places]
    targets = mixed.labels["target"]
    assert torch.equal(mixed.lengths, plain.lengths)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(30))
    shares = targets[torch.arange(30), torch.tensor(mixed.labels["class"])]
    between = shares[shares < 1]  # the partner is of another class
    assert 10 < len(between) < 29
    assert 0.3 < float(between.mean()) < 0.7
    row = int(torch.nonzero(shares < 1)[0, 0])
    length, share = int(plain.lengths[row]), float(shares[row])
    own = plain.waveforms[row, :length] - plain.waveforms[row, :length].mean()
    rest = mixed.waveforms[row, :length] - share * own
    fits = []
    for other in range(30):
        partner = plain.waveforms[other, : int(plain.lengths[other])]
        padded = torch.zeros(length)
        count = min(length, len(partner))
        padded[:count] = (partner - partner.mean())[:count]
        fits.append(float((rest - (1 - share) * padded).std()))
    assert min(fits) < 1e-5
    assert float(mixed.waveforms[row, :length].mean()) == pytest.approx(0.0, abs=1e-6)


def test_mixup_happens_as_often_as_asked(task: DownstreamTask) -> None:
    audio, plain = audio_of(task, Mixup(0.25, 10)), audio_of(task, None)
    mixed = 0
    for epoch in range(20):
        places = [(index, epoch) for index in range(30)]
        changed = (audio[places].waveforms != plain[places].waveforms).any(dim=1)
        mixed += int(changed.sum())
    assert mixed / 600 == pytest.approx(0.25, abs=0.05)


def test_crops_are_cut_at_random_places(task: DownstreamTask) -> None:
    audio = audio_of(task, None, crop_seconds=0.1)
    one, other = audio[[(4, 0)]], audio[[(4, 1)]]
    assert one.lengths.tolist() == other.lengths.tolist() == [1600]
    assert not torch.equal(one.waveforms, other.waveforms)


def shifts(rolled: torch.Tensor, plain: torch.Tensor) -> list[int]:
    candidates = torch.nonzero(rolled == plain[0])[:, 0].tolist()  # where the first sample may have gone
    return [s for s in candidates if torch.equal(plain.roll(s), rolled)]


def test_rolls_put_the_end_before_the_beginning(task: DownstreamTask) -> None:
    found = {}
    for step, samples in ((0.0, 1), (0.05, 800), (10.0, 160000)):
        rolled, plain = audio_of(task, None, roll_seconds=step), audio_of(task, None)
        places = [(0, epoch) for epoch in range(40)]
        pairs = zip(rolled[places].waveforms, plain[places].waveforms, strict=True)
        found[samples] = [s for one, other in pairs for s in shifts(one, other)]
        assert len(found[samples]) == 40
    assert len(set(found[1])) > 35
    assert min(found[1]) < 320
    assert max(found[1]) > 2880
    assert set(found[800]) == {0, 800, 1600, 2400}
    assert set(found[160000]) == {0}


def test_partners_of_mixup_are_rolled_by_themselves(task: DownstreamTask) -> None:
    mixed, rolled = audio_of(task, Mixup(1.0, 10), roll_seconds=0.0), audio_of(task, None, roll_seconds=0.0)
    batch, waveforms = mixed[[(index, 3) for index in range(30)]], rolled[[(index, 3) for index in range(30)]].waveforms
    shares = batch.labels["target"][torch.arange(30), torch.tensor(batch.labels["class"])]
    row = int(torch.nonzero(shares < 1)[0, 0])  # its partner is of another class
    share, length = float(shares[row]), int(batch.lengths[row])
    rest = batch.waveforms[row, :length] - share * (waveforms[row, :length] - waveforms[row, :length].mean())
    fits = []
    for other in range(30):
        partner = waveforms[other, : int(rolled.num_samples[other])]
        padded = torch.zeros(length)
        padded[: len(partner)] = (partner - partner.mean())[:length]
        fits.append(float((rest - (1 - share) * padded).std()))
    assert min(fits) < 1e-5


def test_a_stream_can_be_entered_anywhere(task: DownstreamTask) -> None:
    def batches() -> TrainBatches:
        return TrainBatches(audio_of(task, Mixup(0.5, 10)), Draws(30, 8, 0), num_workers=0)

    whole = list(islice(batches().iterate(0), 6))
    later = list(islice(batches().iterate(1, 2), 3))
    for batch, expected in zip(later, whole[1::2], strict=True):
        assert torch.equal(batch.waveforms, expected.waveforms)
        assert torch.equal(batch.labels["target"], expected.labels["target"])
        assert torch.equal(batch.seeds, expected.seeds)
    assert sorted(name for batch in batches().once() for name in batch.ids) == sorted(task.corpus.table("train").ids)


def test_scoring_reads_everything_once(task: DownstreamTask) -> None:
    batches = ScoringBatches(LabelledAudio(task.dataset("dev"), 0), max_seconds=1.0, num_workers=0)
    for _ in range(2):
        names = [name for batch in batches.once() for name in batch.ids]
        assert sorted(names) == sorted(task.corpus.table("dev").ids)


def test_joined_splits_keep_audio_and_labels(task: DownstreamTask) -> None:
    train, dev = task.dataset("train"), task.dataset("dev")
    joined = join_examples([train, dev])
    assert joined.cuts.ids == train.cuts.ids + dev.cuts.ids
    assert joined.labels["class"] == train.labels["class"] + dev.labels["class"]
    assert np.array_equal(joined.cuts.read(35), dev.cuts.read(5))
    assert np.array_equal(joined.cuts.read(3), train.cuts.read(3))
    assert joined.cuts.column("speaker")[30:] == dev.cuts.column("speaker")
    assert join_examples([train]) is train
