"""Batches of labelled waveforms, for training without end and for scoring every utterance once."""

import itertools
from collections.abc import Iterator, Sequence

from speechssl.data.cuts import CutTable
from speechssl.data.loader import Reader
from speechssl.data.sampler import sorted_batches
from speechssl.data.shards import SAMPLE_RATE
from speechssl.finetune.audio import LabelledAudio
from speechssl.finetune.draws import Draws
from speechssl.interfaces import Batch, Examples


class TrainBatches:
    """An endless sequence of train batches (`speechssl.interfaces.BatchStream`)."""

    def __init__(self, audio: LabelledAudio, draws: Draws, num_workers: int) -> None:
        self._draws, self._audio = draws, audio
        self._endless, self._single = Reader(audio, num_workers), Reader(audio, num_workers)

    def iterate(self, start: int, step: int = 1) -> Iterator[Batch]:
        """Yield batches number `start`, `start + step`, ... without end."""
        return self._endless.read(map(self._draws.__getitem__, itertools.count(start, step)))

    def once(self) -> Iterator[Batch]:
        """Yield every utterance once, in the order of the splits, as it is first drawn."""
        numbers = range(0, len(self._audio), self._draws.batch_size)
        width = self._draws.batch_size
        places = [[(i, 0) for i in range(first, min(first + width, len(self._audio)))] for first in numbers]
        return self._single.read(places)


class ScoringBatches:
    """Every utterance once, the longest first, in batches of bounded padded audio."""

    def __init__(self, audio: LabelledAudio, max_seconds: float, num_workers: int) -> None:
        specs = sorted_batches(audio.num_samples, round(max_seconds * SAMPLE_RATE))
        self._places = [[(index, 0) for index in spec.indices] for spec in specs]
        self._reader = Reader(audio, num_workers)

    def once(self) -> Iterator[Batch]:
        return self._reader.read(self._places)


def join_examples(splits: Sequence[Examples]) -> Examples:
    """Return several splits of a corpus as one."""
    if len(splits) == 1:
        return splits[0]
    labels = {name: [value for split in splits for value in split.labels[name]] for name in splits[0].labels}
    return Examples(CutTable.joined([split.cuts for split in splits]), labels)
