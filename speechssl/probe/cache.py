"""Hidden states of every utterance, computed once and kept on disk for all tasks, learning rates and seeds.

Folder `<cache>/<upstream>/`, one per upstream (digest of weights and configuration). Three kinds of shards,
each an array in a `.npy` file that is memory-mapped for reading, with a `.json` beside it, written last, that
says what is in it:

    pooled-<shard>.npy      (utterances, L + 1, D) float32, means over valid frames
    deviation-<shard>.npy   (utterances, L + 1, D) float32, standard deviations over valid frames
    frames-<shard>.npy      (frames of all utterances end to end, L + 1, D) float16, float32 or int8
    scales-<shard>.npy      (utterances, L + 1, D) float32, what the int8 frames of each utterance are multiplied with

Whatever is asked for, means and deviations are kept, so that no pooling needs another pass. Utterances are found
by what they are (corpus, id, length and loudness of the audio), not by split: folds and small draws over the same
audio share them. An interrupted run goes on after the last whole shard.
"""

import logging
from pathlib import Path

import numpy as np
import torch

from speechssl.data.cuts import Corpus, CutTable
from speechssl.data.progress import ProgressLine
from speechssl.errors import UserError
from speechssl.extract.encode import encode
from speechssl.files import atomic_path, digest, make_folder, read_json, remove_leftovers, write_json
from speechssl.interfaces import Upstream
from speechssl.nn.pooling import mean_std
from speechssl.probe.frames import FrameFeatures
from speechssl.probe.keys import utterance_keys

logger = logging.getLogger(__name__)

FORMAT = 1
DTYPES = {"float16": np.float16, "float32": np.float32, "int8": np.int8}
STEPS = 127  # of int8 on either side of 0
KINDS = {"mean": ("pooled",), "mean_std": ("pooled", "deviation")}  # what each pooling reads
SHARD_BYTES = 256 * 2**20
SHARD_SECONDS = 1800.0  # of audio: what an interruption may cost


class FeatureCache:
    """The cached hidden states of one upstream.

    Args:
        folder: of all caches.
        upstream: a frozen model in `eval()`, on the device it shall run on.
        sha256: digest of its weights and configuration.
        frame_dtype: of frame-level features on disk: "float16", "float32", or "int8" for 127 steps up to the largest
            value of each utterance, layer and channel.
        max_seconds: padded audio per forward pass.
        num_workers: processes that read audio.
    """

    def __init__(
        self,
        folder: Path,
        upstream: Upstream,
        sha256: str,
        *,
        frame_dtype: str,
        max_seconds: float,
        num_workers: int,
    ):
        if frame_dtype not in DTYPES:
            raise UserError(f"frame_dtype expects {', '.join(DTYPES)}, found {frame_dtype!r}")
        self.upstream, self.frame_dtype = upstream, frame_dtype
        self.max_seconds, self.num_workers = max_seconds, num_workers
        self.folder = folder / digest([FORMAT, sha256])
        self.unreadable: dict[str, str] = {}  # key -> reason; tried again by the next process
        self._pooled: dict[str, dict[str, tuple[Path, int]]] = {"pooled": {}, "deviation": {}}  # key -> file, row
        self._frames: dict[str, tuple[Path, int, int, int]] = {}  # key -> file, first frame, frames, row of the scales
        self._open: dict[Path, np.ndarray] = {}
        remove_leftovers(self.folder)
        for mark in sorted(self.folder.glob("*.json")):
            self._remember(mark)

    def _remember(self, mark: Path) -> None:
        content = read_json(mark)
        file = mark.with_suffix(".npy")
        if content["kind"] in self._pooled:
            self._pooled[content["kind"]].update({key: (file, row) for row, key in enumerate(content["keys"])})
        elif content["dtype"] == self.frame_dtype:
            ends = np.cumsum(content["lengths"]).tolist()
            spans = enumerate(zip(content["keys"], ends, content["lengths"], strict=True))
            self._frames.update({key: (file, end - length, length, row) for row, (key, end, length) in spans})

    def fill(self, corpus: Corpus, table: CutTable, *, frames: bool, pooling: str = "mean") -> None:
        """Encode the utterances of which the frames, or what the pooling needs, are not there yet."""
        known = [self._frames] if frames else [self._pooled[kind] for kind in KINDS[pooling]]
        keys = utterance_keys(corpus, table)
        there = [key in self.unreadable or all(key in places for places in known) for key in keys]
        missing = [i for i, done in enumerate(there) if not done]
        parts = self._parts(table, missing, frames)
        if missing:
            make_folder(self.folder)  # which had better fail before the encoding
        with ProgressLine("encoding", len(missing)) as progress:
            for part in parts:
                self._encode(table.select(part), [keys[i] for i in part], frames, progress)
        if missing:
            logger.info("encoded %d utterances of %s", len(missing), corpus.path)

    def _parts(self, table: CutTable, missing: list[int], frames: bool) -> list[list[int]]:
        """Cut the missing utterances, sorted by length, into shards."""
        width = (self.upstream.num_layers + 1) * self.upstream.hidden_size  # numbers per frame
        rate = self.upstream.sample_rate / self.upstream.downsample_rate  # frames per second
        per_second = width * rate * np.dtype(DTYPES[self.frame_dtype]).itemsize
        limit = min(SHARD_SECONDS, SHARD_BYTES / per_second) if frames else SHARD_SECONDS
        parts: list[list[int]] = []
        room = 0.0
        for i in sorted(missing, key=lambda i: int(table.num_samples[i])):
            seconds = int(table.num_samples[i]) / 16000
            if seconds > room:
                parts.append([])
                room = limit
            parts[-1].append(i)
            room -= seconds
        return parts

    def _encode(self, table: CutTable, keys: list[str], frames: bool, progress: ProgressLine) -> None:
        names = dict(zip(table.ids, keys, strict=True))
        pooled: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in self._pooled}
        whole: dict[str, np.ndarray] = {}
        scales: dict[str, np.ndarray] = {}
        encoded = encode(
            self.upstream,
            table,
            layers=None,
            pooling="none" if frames else "mean_std",
            dtype=torch.float32,
            max_seconds=self.max_seconds,
            num_workers=self.num_workers,
            progress=progress,
        )
        for item in encoded:
            key = names[item.id]
            if item.features is None:
                self.unreadable[key] = item.reason
                logger.warning("%s is left out: %s", item.id, item.reason)
                continue
            statistics = mean_std(item.features) if frames else item.features
            pooled["pooled"][key], pooled["deviation"][key] = (part.numpy() for part in statistics.chunk(2, dim=-1))
            if frames:
                whole[key], scales[key] = self._compact(item.features.transpose(0, 1).numpy(), item.id)
        if frames and whole:
            self._write("frames", whole, scales if self.frame_dtype == "int8" else None)
        for kind, arrays in pooled.items():
            fresh = {key: value for key, value in arrays.items() if key not in self._pooled[kind]}
            if fresh:
                self._write(kind, fresh)

    def _compact(self, features: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return frames (T, L + 1, D) as they are kept, and what they are to be multiplied with (L + 1, D)."""
        scale = np.ones(features.shape[1:], np.float32)
        if self.frame_dtype == "int8":
            scale = np.abs(features).max(axis=0) / STEPS
            features = np.rint(features / np.where(scale > 0, scale, 1.0))
        with np.errstate(over="ignore", invalid="ignore"):
            compact = features.astype(DTYPES[self.frame_dtype])
        if not (np.isfinite(compact).all() and np.isfinite(scale).all()):
            raise UserError(
                f"hidden states of {name} reach {np.abs(features).max():.3g}, beyond {self.frame_dtype}; "
                "use probe.frame_dtype=float32"
            )
        return compact, scale

    def _write(self, kind: str, arrays: dict[str, np.ndarray], scales: dict[str, np.ndarray] | None = None) -> None:
        """Write one shard: the array (and its scales), then the mark that makes it count."""
        dtype = self.frame_dtype if kind == "frames" else "float32"
        file = self.folder / f"{kind}-{digest([dtype, *arrays])}.npy"
        join = np.concatenate if kind == "frames" else np.stack
        _save(file, join(list(arrays.values())))
        if scales is not None:
            _save(_scales_of(file), np.stack(list(scales.values())))
        content = {"kind": kind, "dtype": dtype, "keys": list(arrays)}
        if kind == "frames":
            content["lengths"] = [len(array) for array in arrays.values()]
        write_json(file.with_suffix(".json"), content)
        self._remember(file.with_suffix(".json"))

    def has_frames(self, key: str) -> bool:
        """Tell whether the frames of an utterance are there, or cannot be made."""
        return key in self._frames or key in self.unreadable

    def readable(self, corpus: Corpus, table: CutTable) -> list[int]:
        """Return the indices of the utterances that could be encoded (after `fill`)."""
        return [i for i, key in enumerate(utterance_keys(corpus, table)) if key not in self.unreadable]

    def features(
        self, corpus: Corpus, table: CutTable, *, frames: bool, pooling: str = "mean"
    ) -> torch.Tensor | FrameFeatures:
        """Return what `fill` with the same arguments made sure of."""
        return self.frames(corpus, table) if frames else self.pooled(corpus, table, pooling)

    def pooled(self, corpus: Corpus, table: CutTable, pooling: str = "mean") -> torch.Tensor:
        """Return float32 statistics over time in the order of the table (after `fill`).

        (N, L + 1, D) means, or with `pooling="mean_std"` (N, L + 1, 2 D) means and standard deviations.
        """
        keys, parts = utterance_keys(corpus, table), []
        for kind in KINDS[pooling]:
            places = [self._pooled[kind][key] for key in keys]
            parts.append(np.stack([self._array(file)[row] for file, row in places]))
        return torch.from_numpy(np.concatenate(parts, axis=-1))

    def frames(self, corpus: Corpus, table: CutTable) -> FrameFeatures:
        """Return frame-level features in the order of the table (after `fill` with frames)."""
        places = [self._frames[key] for key in utterance_keys(corpus, table)]
        arrays = [self._array(file)[first : first + count] for file, first, count, _ in places]
        if self.frame_dtype != "int8":
            return FrameFeatures(arrays)
        return FrameFeatures(arrays, [self._array(_scales_of(file))[row] for file, _, _, row in places])

    def _array(self, file: Path) -> np.ndarray:
        if file not in self._open:
            try:
                self._open[file] = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"cached features {file} are damaged ({error}); remove {file.parent} and run again"
                ) from error
        return self._open[file]


def _save(file: Path, array: np.ndarray) -> None:
    with atomic_path(file) as temporary, open(temporary, "wb") as opened:
        np.save(opened, array)


def _scales_of(file: Path) -> Path:
    return file.with_name(file.name.replace("frames-", "scales-"))
