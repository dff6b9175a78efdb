"""Run an upstream over a corpus: every utterance once, in an order fixed by the corpus alone."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from speechssl.data.cuts import CutTable
from speechssl.data.loader import utterance_batches
from speechssl.data.progress import ProgressLine
from speechssl.errors import UserError
from speechssl.interfaces import Upstream
from speechssl.nn.pooling import POOLINGS, mean_std


@dataclass
class Encoded:
    """The chosen hidden states of one utterance, or the reason why there are none."""

    id: str
    features: Tensor | None  # (L', T, D), or (L', D) where pooled over time
    num_frames: int
    reason: str = field(default="")


def check_layers(upstream: Upstream, layers: list[int] | None) -> list[int]:
    """Return the chosen hidden states as indices 0..num_layers (None = all; negative ones count from the end).

    Raises:
        UserError: an index the upstream does not have.
    """
    count = upstream.num_layers + 1
    chosen = list(range(count)) if layers is None else [i + count if i < 0 else i for i in layers]
    if not chosen or any(not 0 <= i < count for i in chosen):
        raise UserError(f"layers={layers} does not fit: this upstream has hidden states 0..{count - 1}")
    return chosen


@torch.no_grad()
def encode(
    upstream: Upstream,
    cuts: CutTable,
    *,
    layers: list[int] | None,
    pooling: str,
    dtype: torch.dtype,
    max_seconds: float,
    num_workers: int,
    progress: ProgressLine | None = None,
) -> Iterator[Encoded]:
    """Yield each utterance's hidden states on the CPU, batched by length to waste no padding.

    Args:
        layers: hidden states to keep, None for all.
        pooling: "none" for (L', T, D), "mean" for the mean over valid frames, (L', D), "mean_std" for mean and
            standard deviation, (L', 2 D).
        max_seconds: padded audio per forward pass, in seconds.
        progress: told of every batch that is done.
    """
    if pooling not in ("none", *POOLINGS):
        raise UserError(f"pooling={pooling!r} is not known; known: none, {', '.join(POOLINGS)}")
    chosen = check_layers(upstream, layers)
    device = next((p.device for p in upstream.state_dict().values()), torch.device("cpu"))
    for batch in utterance_batches(cuts, max_seconds=max_seconds, num_workers=num_workers):
        for name, reason in batch.unreadable:
            yield Encoded(name, None, 0, reason)
        if progress is not None:
            progress.advance(len(batch.unreadable) + (0 if batch.empty else len(batch.ids)), batch.seconds)
        if batch.empty:
            continue
        on_device = batch.to(device)
        features = upstream(on_device.waveforms, on_device.lengths)
        states = torch.stack([features.hidden_states[i] for i in chosen], dim=1)  # (B, L', T, D)
        for i, (name, frames) in enumerate(zip(batch.ids, features.lengths.tolist(), strict=True)):
            kept = states[i, :, :frames]
            if pooling != "none":
                kept = kept.mean(dim=1) if pooling == "mean" else mean_std(kept)
            yield Encoded(name, kept.to("cpu", dtype).contiguous(), frames)


def parts(cuts: CutTable, seconds_per_part: float) -> list[np.ndarray]:
    """Split a corpus into consecutive index ranges of about this many seconds, each at least one utterance."""
    starts = (np.cumsum(cuts.num_samples) - cuts.num_samples) / 16000
    part = np.floor(starts / seconds_per_part).astype(np.int64)
    return [np.flatnonzero(part == value) for value in np.unique(part)]
