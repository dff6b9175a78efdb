"""Runs a tokenizer over a corpus and leaves its labels as shards; continues at the first shard that is missing.

Utterances are labelled whole and without augmentation. Ranks share the shards.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from speechssl.data import labels as store
from speechssl.data.cuts import Corpus, CutTable
from speechssl.data.loader import utterance_batches
from speechssl.data.progress import ProgressLine
from speechssl.data.shards import SAMPLE_RATE
from speechssl.errors import UserError
from speechssl.interfaces import Labelling, Tokenizer
from speechssl.metrics.codebook import CodebookUsage

logger = logging.getLogger(__name__)

SHARD_HOURS = 2.0  # of audio in a shard: about 100 kB of labels
BATCH_SECONDS = 120.0
COLLAPSED = 2.0  # perplexity of labels from which nothing can be learnt


def label_corpus(fabric: Fabric, work: Labelling, corpus: Corpus, folder: Path, num_workers: int) -> dict[str, Any]:
    """Label the train and dev splits into `folder`; return what the lineage should tell.

    Raises:
        UserError: labels that are nearly all the same, or a folder begun with another tokenizer or corpus.
    """
    tokenizer = work.tokenizer.to(fabric.device)
    tables = {split: corpus.table(split) for split in ("train", "dev") if split in corpus.splits}
    plan = [(split, number, rows) for split, table in tables.items() for number, rows in enumerate(shards(table))]
    origin = {"tokenizer_sha256": work.tokenizer_sha256, "corpus_fingerprint": corpus.fingerprint}
    store.check_origin(folder, origin)
    fabric.barrier()
    if fabric.is_global_zero:
        store.begin(folder, origin)
    mine = plan[fabric.global_rank :: fabric.world_size]  # of the plan, not of what is left: that changes meanwhile
    todo = [entry for entry in mine if not store.has_shard(folder / entry[0], entry[1])]
    total, left = (sum(len(rows) for _, _, rows in entries) for entries in (mine, todo))
    unreadable: dict[str, str] = {}
    with ProgressLine("labelling", total, total - left, fabric.is_global_zero) as progress:
        for split, number, rows in todo:
            found = label_shard(tokenizer, tables[split].select(rows), num_workers, progress, unreadable)
            store.write_shard(folder / split, number, found, tokenizer.num_codes)
    for name, reason in unreadable.items():
        logger.warning("left out of the labels: %s (%s)", name, reason)
    fabric.barrier()
    counts = {split: sum(entry[0] == split for entry in plan) for split in tables}
    if fabric.is_global_zero:
        header = {"num_codes": tokenizer.num_codes, "mask_rule": "exact", "facts": work.facts()}
        store.finish(folder, origin | header, counts)
    fabric.barrier()
    return facts(store.StoredLabels(folder), work)


def shards(table: CutTable) -> list[np.ndarray]:
    """Cut the utterances, in their order, into shards of about `SHARD_HOURS`."""
    hours = np.cumsum(table.num_samples) / SAMPLE_RATE / 3600
    number = (hours // SHARD_HOURS).astype(np.int64)
    return [np.flatnonzero(number == value) for value in np.unique(number)]


def label_shard(
    tokenizer: Tokenizer, table: CutTable, num_workers: int, progress: ProgressLine, unreadable: dict[str, str]
) -> dict[str, np.ndarray]:
    """Return the labels (N,) of every utterance; none of those that are too short or cannot be read."""
    found = {name: np.zeros(0, np.int64) for name in table.ids}
    long_enough = np.flatnonzero(table.num_samples >= tokenizer.min_samples)
    progress.advance(len(table) - len(long_enough), 0.0)
    if len(long_enough) == 0:
        return found
    device = next(tokenizer.buffers()).device
    for batch in utterance_batches(table.select(long_enough), max_seconds=BATCH_SECONDS, num_workers=num_workers):
        unreadable.update(batch.unreadable)
        progress.advance(len(batch.ids) + len(batch.unreadable), batch.seconds)
        if batch.empty:
            continue
        with torch.inference_mode():
            labels = tokenizer.tokenize(batch.waveforms.to(device), batch.lengths.to(device)).cpu().numpy()
        for name, row in zip(batch.ids, labels, strict=True):
            found[name] = row[row >= 0]
    return found


def facts(labels: store.StoredLabels, work: Labelling) -> dict[str, Any]:
    """Return the use of the codebook, after refusing one that has collapsed."""
    usage = CodebookUsage(labels.num_codes)
    usage.counts += torch.from_numpy(labels.histogram())
    codebook = usage.compute()
    if codebook["perplexity"] < COLLAPSED:
        raise UserError(
            f"the tokenizer gives nearly always the same label (perplexity {codebook['perplexity']:.2f} of "
            f"{labels.num_codes} codes); train it longer or with another learning rate, or reset dead codes"
        )
    return work.facts() | {"codebook": codebook}
