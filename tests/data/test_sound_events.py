"""Computed sounds: length, level, the same for the same key, and classes that a spectrum tells apart in part."""

import numpy as np
import pytest

from speechssl.data.sound_events import CLIPS, KINDS, SAMPLE_RATE, sound_event, sound_events


@pytest.mark.parametrize("kind", list(KINDS))
def test_clips_are_one_second_and_audible(kind: str) -> None:
    for number in range(5):
        samples, rate = sound_event(kind, str(number))
        assert (len(samples), rate) == (SAMPLE_RATE, 16000)
        assert samples.dtype == np.float32
        assert 0.01 < np.abs(samples).max() < 0.99


def test_the_key_decides() -> None:
    for kind in KINDS:
        first, same, other = (sound_event(kind, key)[0] for key in ("a", "a", "b"))
        np.testing.assert_array_equal(first, same)
        assert (first != other).any()


def test_splits_have_the_same_classes() -> None:
    splits = sound_events(seed=0)
    for split, items in splits.items():
        labels = [item.custom["label"] for item in items]
        assert {label: labels.count(label) for label in labels} == dict.fromkeys(KINDS, CLIPS[split])
        assert all(item.split == "" for item in items)
    assert len({item.id for items in splits.values() for item in items}) == 6 * sum(CLIPS.values())


def test_the_nearest_mean_spectrum_is_right_more_often_than_by_chance_but_not_always() -> None:
    splits = sound_events(seed=0)

    def bands(split: str) -> tuple[np.ndarray, np.ndarray]:
        items = splits[split]
        frames = np.stack([item.audio()[0][: 62 * 256].reshape(62, 256) for item in items])
        power = (np.abs(np.fft.rfft(frames * np.hanning(256))[..., 1:]) ** 2).reshape(len(items), 62, 32, 4).sum(-1)
        logs = np.log(power + 1e-9)
        return np.concatenate([logs.mean(1), logs.std(1)], 1), np.array(
            [list(KINDS).index(i.custom["label"]) for i in items]
        )

    (known, labels), (heard, truth) = bands("train"), bands("test")
    mean, std = known.mean(0), known.std(0)
    centres = np.stack([((known - mean) / std)[labels == kind].mean(0) for kind in range(len(KINDS))])
    answers = (((heard - mean) / std)[:, None] - centres[None]).__pow__(2).sum(-1).argmin(1)
    assert 0.35 < (answers == truth).mean() < 0.95
