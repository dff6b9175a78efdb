"""Mean and std of a frontend's features over a corpus, per channel: computed once, kept with the corpus.

Taken in float64 over the valid frames of at most ten hours of the train split (dev where there is none), chosen by
hash of the utterance ids, so that the numbers do not depend on the order of the manifest. The std is that of the
population (divided by the count).
"""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechssl.data.cuts import Corpus, CutTable
from speechssl.data.loader import utterance_batches
from speechssl.data.shards import SAMPLE_RATE
from speechssl.data.splits import hash64
from speechssl.errors import UserError
from speechssl.files import digest, read_json, write_json

logger = logging.getLogger(__name__)

MAX_HOURS = 10.0
BATCH_SECONDS = 60.0


def stored_statistics(corpus: Corpus, frontend: nn.Module) -> tuple[Tensor, Tensor]:
    """Return mean (F,) and std (F,) in float64, from the corpus's file or computed and added to it."""
    known = _stored(corpus).get(frontend.key)
    if known is None:
        logger.info("computing mean and std of %s over %s", frontend.key, corpus.path)
        known = corpus_statistics(corpus.table(_split(corpus)), frontend)
        _store(corpus, frontend.key, known)
    return tensors(known)


def _split(corpus: Corpus) -> str:
    """Return "train", or "dev" where nothing is trained, as in search by example; never test."""
    for split in ("train", "dev"):
        if split in corpus.splits:
            return split
    raise UserError(f"{corpus.path} has neither a train nor a dev split to take mean and std of the features from")


def tensors(known: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return mean (F,) and std (F,) in float64."""
    return torch.tensor(known["mean"], dtype=torch.float64), torch.tensor(known["std"], dtype=torch.float64)


def _stored(corpus: Corpus) -> dict[str, Any]:
    """Return what is on disk now; a side file that was made for another manifest does not count."""
    path = corpus.statistics_file
    if not path.is_file():
        return {}
    content = read_json(path)
    return content.get("statistics", {}) if content.get("fingerprint") == corpus.fingerprint else {}


def _store(corpus: Corpus, key: str, value: dict[str, Any]) -> None:
    """Add one entry, keeping what other processes have written meanwhile."""
    path = corpus.statistics_file
    content = read_json(path) if corpus.info else {"fingerprint": corpus.fingerprint}
    content["statistics"] = _stored(corpus) | {key: value}
    try:
        write_json(path, content)
    except OSError as error:
        logger.warning("%s cannot be written (%s); the statistics will be computed again", path, error.strerror)


def corpus_statistics(table: CutTable, frontend: nn.Module, max_hours: float = MAX_HOURS) -> dict[str, Any]:
    """Return {"mean", "std": F floats each, "frames", "utterances", "hours", "subset": hash of the ids used}.

    Raises:
        UserError: nothing readable.
    """
    chosen = table.select(hashed_subset(table, max_hours))
    count, num_read, num_samples = 0, 0, 0
    shift = total = squares = torch.zeros(())
    for batch in utterance_batches(chosen, max_seconds=BATCH_SECONDS):
        for identifier, reason in batch.unreadable:
            logger.warning("left out of the statistics: %s (%s)", identifier, reason)
        if batch.empty:
            continue
        frames = _valid_frames(frontend, batch.waveforms, batch.lengths, batch.rms)
        if count == 0 and len(frames):  # sums of differences to a first mean keep all digits
            shift, total, squares = frames.mean(0), frames.new_zeros(()), frames.new_zeros(())
        frames = frames - shift
        total, squares, count = total + frames.sum(0), squares + frames.square().sum(0), count + len(frames)
        num_read, num_samples = num_read + len(batch.ids), num_samples + int(batch.lengths.sum())
    if count == 0:
        raise UserError(f"no statistics of {frontend.key}: not one of {len(chosen)} utterances could be read")
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0)
    return {
        "mean": (shift + mean).tolist(),
        "std": variance.sqrt().tolist(),
        "frames": count,
        "utterances": num_read,
        "hours": round(num_samples / SAMPLE_RATE / 3600, 4),
        "subset": digest(chosen.ids),
    }


def hashed_subset(table: CutTable, max_hours: float) -> np.ndarray:
    """Return indices of at most `max_hours` (and one utterance or more), whatever their order."""
    order = np.array(sorted(range(len(table)), key=lambda row: (hash64(f"statistics/{table.ids[row]}"), row)))
    hours = np.cumsum(table.num_samples[order]) / SAMPLE_RATE / 3600
    return order[: max(1, int(np.searchsorted(hours, max_hours, side="right")))]


@torch.no_grad()
def _valid_frames(frontend: nn.Module, waveforms: Tensor, lengths: Tensor, rms: Tensor | None) -> Tensor:
    """Return the features of all valid frames of a batch, (frames, F) float64 on the CPU."""
    device = next(frontend.buffers(), waveforms).device
    rms = None if rms is None else rms.to(device)
    features, num_frames = frontend.unnormalized(waveforms.to(device), lengths.to(device), rms)
    valid = torch.arange(features.shape[1], device=device) < num_frames[:, None]
    return features[valid].double().cpu()
