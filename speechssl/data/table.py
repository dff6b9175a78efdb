"""Utterances of a manifest as compact arrays.

Lists of cut objects cost kilobytes each and are copied into every worker process; here an utterance is a few
numbers, its id and references to shared label strings. Reading one is a slice of a memory map where the audio
lies in 16 kHz PCM16 WAV (as `prepare` writes it), else soundfile and soxr.
"""

import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from speechssl.audio import read_audio
from speechssl.data.manifest import RMS, Row
from speechssl.data.scan import MEAN, Columns
from speechssl.data.shards import SAMPLE_RATE, open_shard, to_float
from speechssl.errors import AudioError, UserError

LENGTH_TOLERANCE = SAMPLE_RATE // 100  # samples, 10 ms: manifests round; more than this is damage
RESAMPLING_MARGIN = 0.05  # seconds read on both sides of an excerpt, so that it equals the same part of the whole


class CutTable:
    """Utterances of one split, addressed by index.

    Attributes:
        ids: cut ids.
        num_samples: (N,) int64 lengths at 16 kHz.
    """

    def __init__(self, columns: Columns) -> None:
        self.ids = columns.ids
        self.num_samples = np.array(columns.num_samples, np.int64)
        self._start = np.array(columns.start, np.int64)  # samples of the source
        self._count = np.array(columns.count, np.int64)  # samples of the source
        self._rate = np.array(columns.rate, np.int32)  # Hz of the source
        self._source = np.array(columns.source, np.int32)  # into _files; -1 = only lhotse can read it
        self._channel = np.array(columns.channel, np.int16)
        root = _root(columns)
        self._files = [os.path.join(root, source) for source in columns.sources]
        self._labels = columns.labels
        self._foreign = {row: (cut, root) for row, cut in columns.foreign.items()}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that at least one utterance has."""
        return sorted(self._labels)

    def column(self, name: str) -> list[Any]:
        """Return one entry per utterance of `speaker`, `text`, ... or a custom column; None if missing."""
        return list(self._labels.get(name) or [None] * len(self))

    def select(self, indices: Sequence[int] | np.ndarray) -> "CutTable":
        """Return a table of these utterances, in this order."""
        rows = np.asarray(indices, np.int64)
        chosen = object.__new__(CutTable)
        chosen._files = self._files
        for name in ("num_samples", "_start", "_count", "_rate", "_source", "_channel"):
            setattr(chosen, name, getattr(self, name)[rows])
        picks = rows.tolist()
        chosen.ids = [self.ids[row] for row in picks]
        chosen._labels = {name: [values[row] for row in picks] for name, values in self._labels.items()}
        chosen._foreign = {new: self._foreign[old] for new, old in enumerate(picks) if old in self._foreign}
        return chosen

    @classmethod
    def joined(cls, tables: Sequence["CutTable"]) -> "CutTable":
        """Return one table of the utterances of several, one after the other."""
        whole = object.__new__(cls)
        for name in ("num_samples", "_start", "_count", "_rate", "_channel"):
            setattr(whole, name, np.concatenate([getattr(table, name) for table in tables]))
        whole.ids = [name for table in tables for name in table.ids]
        names = {name for table in tables for name in table.columns}
        whole._labels = {name: [value for table in tables for value in table.column(name)] for name in names}
        whole._files, whole._foreign, sources, rows = [], {}, [], 0
        for table in tables:
            sources.append(np.where(table._source < 0, table._source, table._source + len(whole._files)))
            whole._files += table._files
            whole._foreign |= {rows + row: cut for row, cut in table._foreign.items()}
            rows += len(table)
        whole._source = np.concatenate(sources)
        return whole

    def rows(self) -> Iterator[Row]:
        """Yield id, samples and labels of every utterance."""
        for row, (identifier, num_samples) in enumerate(zip(self.ids, self.num_samples.tolist(), strict=True)):
            yield identifier, num_samples, {name: values[row] for name, values in self._labels.items()}

    def rms(self, index: int) -> float | None:
        """Return the utterance's root mean square (1 = full scale) as `prepare` stored it, or None."""
        values = self._labels.get(RMS)
        value = values[index] if values else None
        return float(value) if isinstance(value, int | float) and 0 < value <= 1 else None

    def audio_of(self, index: int) -> tuple[str, float, float] | None:
        """Return file, start and duration in seconds, or None where they do not tell which samples."""
        if self._source[index] < 0 or self._channel[index] != MEAN:
            return None
        start, count, rate = (int(values[index]) for values in (self._start, self._count, self._rate))
        return self._files[self._source[index]], start / rate, count / rate

    def read(self, index: int, start: int = 0, count: int | None = None) -> np.ndarray:
        """Return float32 samples (S,) at 16 kHz: `count` of them from sample `start` on (default: all).

        Raises:
            AudioError: missing, unreadable, truncated, not finite or more than 10 ms shorter than the
                manifest says.
        """
        total = int(self.num_samples[index])
        count = total - start if count is None else count
        if start < 0 or count <= 0 or start + count > total:
            raise UserError(f"{self.ids[index]} has {total} samples; {start}..{start + count} was asked for")
        source = self._source[index]
        if source < 0:
            return self._read_with_lhotse(index)[start : start + count]
        path, first = self._files[source], int(self._start[index])
        samples = open_shard(path) if self._rate[index] == SAMPLE_RATE else None
        if samples is None:
            return self._read_file(index, path, start, count)
        first += start
        if first + count > len(samples) + LENGTH_TOLERANCE:
            raise AudioError(
                f"{path} ends before utterance {self.ids[index]}; it was changed after its manifest was made"
            )
        return _fit(to_float(samples[first : first + count]), count)

    def _read_file(self, index: int, path: str, start: int, count: int) -> np.ndarray:
        """Read an excerpt of any file; if resampled, with a margin, cut at whole periods of both rates."""
        rate, length, channel = int(self._rate[index]), int(self._count[index]), int(self._channel[index])
        shared = math.gcd(rate, SAMPLE_RATE)
        up, down = SAMPLE_RATE // shared, rate // shared  # `up` samples here are `down` samples of the source
        margin = 0 if up == down else math.ceil(RESAMPLING_MARGIN * SAMPLE_RATE / up)
        block = max(start // up - margin, 0)
        first, last = block * down, min((-(-(start + count) // up) + margin) * down, length)
        samples = read_audio(
            path,
            start_seconds=(int(self._start[index]) + first) / rate,
            duration_seconds=(last - first) / rate,
            channel="mean" if channel == MEAN else channel,
        )
        skip = start - block * up
        return _fit(samples[skip : skip + count], count, self.ids[index])

    def _read_with_lhotse(self, index: int) -> np.ndarray:
        from speechssl.data.foreign import read_cut

        return _fit(read_cut(*self._foreign[index], self.ids[index]), int(self.num_samples[index]))


def _fit(samples: np.ndarray, count: int, identifier: str = "") -> np.ndarray:
    """Cut or zero-pad by at most 10 ms: what rounded durations and codecs leave."""
    if len(samples) == count:
        return samples
    if len(samples) < count - LENGTH_TOLERANCE:
        raise AudioError(f"{identifier}: the manifest says {count} samples at 16 kHz, found {len(samples)}")
    return np.pad(samples[:count], (0, count - len(samples[:count])))


def _root(columns: Columns) -> str:
    """Return the folder relative sources start from: the manifest's, else the current one (lhotse's rule)."""
    folder = str(columns.path.resolve().parent)
    first = next((source for source in columns.sources if not os.path.isabs(source)), None)
    if first is None or os.path.exists(os.path.join(folder, first)) or not os.path.exists(first):
        return folder
    return os.getcwd()
