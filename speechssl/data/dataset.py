"""Reads one micro-batch: crops, pads, seeds, and reports what could not be read instead of failing on it."""

import numpy as np
import torch

from speechssl.data.cuts import CutTable
from speechssl.data.sampler import BatchSpec, utterance_numbers
from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import AudioError
from speechssl.interfaces import Batch
from speechssl.waveforms import pad_waveforms

Utterance = tuple[np.ndarray, str, int, float]  # samples (S,), id, seed, RMS of the whole utterance


class BatchDataset(torch.utils.data.Dataset):
    """Turns a `BatchSpec` into a `Batch`; the same one in whichever process.

    Args:
        table: the utterances.
        seed: crops and utterance seeds derive from (seed, epoch, id).
        crop_samples: longer utterances are cut to this many samples at a random place; None keeps them whole.
        crop_multiple: samples; crops start at multiples of it.
    """

    def __init__(self, table: CutTable, seed: int, crop_samples: int | None = None, crop_multiple: int = 1) -> None:
        self._table, self._seed = table, seed
        self._crop_samples, self._crop_multiple = crop_samples, crop_multiple

    def __getitem__(self, spec: BatchSpec) -> Batch:
        utterances: list[Utterance] = []
        unreadable: list[tuple[str, str]] = []
        starts: list[int] = []
        for index in spec.indices:
            try:
                utterances.append(self.read(index, spec.epoch))
                starts.append(self.excerpt(index, spec.epoch)[0])
            except AudioError as error:
                unreadable.append((self._table.ids[index], str(error)))
        batch = collate(utterances, unreadable)
        batch.starts = torch.tensor(starts or [0])
        return batch

    def excerpt(self, index: int, epoch: int) -> tuple[int, int]:
        """Return first sample and number of samples of an utterance as it is in an epoch."""
        length = int(self._table.num_samples[index])
        if self._crop_samples is None or length <= self._crop_samples:
            return 0, length
        place = utterance_numbers(self._seed, epoch, self._table.ids[index])[1]
        choices = (length - self._crop_samples) // self._crop_multiple + 1
        return place % choices * self._crop_multiple, self._crop_samples

    def read(self, index: int, epoch: int) -> Utterance:
        """Return an utterance as it is in an epoch; raises AudioError."""
        identifier, length = self._table.ids[index], int(self._table.num_samples[index])
        seed = utterance_numbers(self._seed, epoch, identifier)[0]
        known = self._table.rms(index)
        start, count = self.excerpt(index, epoch)
        if known is None and count < length:  # rare: the whole utterance has to be read for its level
            whole = self._table.read(index)
            return whole[start : start + count], identifier, seed, _rms(whole)
        samples = self._table.read(index, start, count)
        return samples, identifier, seed, _rms(samples) if known is None else known


def _rms(samples: np.ndarray) -> float:
    wide = samples.astype(np.float64)
    return float(np.sqrt(np.mean(wide * wide)))


def collate(utterances: list[Utterance], unreadable: list[tuple[str, str]]) -> Batch:
    if not utterances:  # every rank has to make its step all the same
        silence = np.zeros(SAMPLE_RATE, np.float32)
        batch = collate([(silence, "", 0, 0.0)], unreadable)
        batch.empty = True
        return batch
    waveforms, ids, seeds, rms = zip(*utterances, strict=True)
    padded, lengths = pad_waveforms([torch.from_numpy(samples) for samples in waveforms])
    return Batch(
        waveforms=padded,
        lengths=lengths,
        ids=list(ids),
        seeds=torch.tensor(seeds, dtype=torch.int64),
        rms=torch.tensor(rms, dtype=torch.float32),
        unreadable=unreadable,
    )
