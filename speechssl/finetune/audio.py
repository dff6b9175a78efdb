"""Labelled waveforms as they are read for fine-tuning: cropped, rolled, and with probability mixed up with others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from speechssl.data.dataset import BatchDataset, Utterance, collate
from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import AudioError
from speechssl.finetune.draws import Place
from speechssl.interfaces import Batch, Examples
from speechssl.nn.mixup import beta, mix_waveforms
from speechssl.nn.random import bits

CHOICE, PARTNER, SHARE, ROLL = range(16, 20)  # random streams, apart from those of spectrogram augmentation


@dataclass(frozen=True)
class Mixup:
    """How often waveforms are mixed (probability per utterance), and how evenly: shares follow Beta(shape, shape)."""

    chance: float
    shape: int


class LabelledAudio(torch.utils.data.Dataset):
    """Reads batches of labelled utterances.

    Args:
        examples: utterances and labels.
        seed: of crops, mixup and utterance seeds.
        classes: the classes of every utterance, for targets; None makes none.
        num_classes: C.
        crop_seconds: longer utterances are cut to this at a random place; None keeps them whole.
        mixup: None mixes nothing.
        roll_seconds: the end of an utterance is put before its beginning, cut at a random multiple of this (0: at any
            sample); None leaves it as it is. Partners of mixup are rolled by themselves.
    """

    def __init__(
        self,
        examples: Examples,
        seed: int,
        *,
        classes: Sequence[Sequence[int]] | None = None,
        num_classes: int = 0,
        crop_seconds: float | None = None,
        mixup: Mixup | None = None,
        roll_seconds: float | None = None,
    ) -> None:
        crop = None if crop_seconds is None else round(crop_seconds * SAMPLE_RATE)
        self._reader = BatchDataset(examples.cuts, seed, crop)
        self._ids, self._labels = examples.cuts.ids, examples.labels
        self._classes, self._num_classes, self._mixup = classes, num_classes, mixup
        self._roll = None if roll_seconds is None else max(1, round(roll_seconds * SAMPLE_RATE))
        self.num_samples = examples.cuts.num_samples

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, places: Sequence[Place]) -> Batch:
        utterances, targets, picks, unreadable = [], [], [], []
        for place in places:
            try:
                utterance, target = self._mixed(place, unreadable)
            except AudioError as error:
                unreadable.append((self._ids[place[0]], str(error)))
                continue
            utterances.append(utterance)
            targets.append(target)
            picks.append(place[0])
        batch = collate(utterances, unreadable)
        batch.labels = {name: [values[i] for i in picks] for name, values in self._labels.items()}
        if self._classes is not None and targets:
            batch.labels["target"] = torch.stack(targets)
        return batch

    def _target(self, index: int) -> Tensor:
        """Return the classes of an utterance as (C,) zeros and ones."""
        target = torch.zeros(self._num_classes)
        if self._classes is not None:
            target[list(self._classes[index])] = 1.0
        return target

    def _read(self, index: int, number: int) -> Utterance:
        """Return an utterance, rolled where that is wanted; raises AudioError."""
        samples, name, seed, rms = self._reader.read(index, number)
        if self._roll is not None:
            places = -(-len(samples) // self._roll)
            samples = np.roll(samples, self._roll * int(_unit(torch.tensor([seed]), ROLL) * places))
        return samples, name, seed, rms

    def _mixed(self, place: Place, unreadable: list[tuple[str, str]]) -> tuple[Utterance, Tensor]:
        """Read an utterance and its target; mix in another, drawn from all, where the utterance's seed says so."""
        samples, name, seed, rms = self._read(*place)
        target = self._target(place[0])
        seeds = torch.tensor([seed])
        if self._mixup is None or _unit(seeds, CHOICE) >= self._mixup.chance:
            return (samples, name, seed, rms), target
        partner = int(_unit(seeds, PARTNER) * len(self))
        try:
            other = self._read(partner, place[1])[0]
        except AudioError as error:
            unreadable.append((self._ids[partner], str(error)))
            return (samples, name, seed, rms), target
        share = float(beta(seeds, SHARE, self._mixup.shape))
        mixed = mix_waveforms(torch.from_numpy(samples), torch.from_numpy(other), share).numpy()
        level = float(np.sqrt(np.mean(mixed.astype(np.float64) ** 2)))
        return (mixed, name, seed, level), share * target + (1.0 - share) * self._target(partner)


def _unit(seeds: Tensor, stream: int) -> float:
    """Return a number in [0, 1) with 53 random bits: enough for millions of utterances."""
    return float(bits(seeds, stream, 1)[0, 0] >> 10) * 2.0**-53
