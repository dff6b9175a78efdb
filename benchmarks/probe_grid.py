"""A learning-rate grid on cached features against recomputing the frozen upstream at every step of every rate.

The other side is what s3prl's runner does, written in a few lines of plain PyTorch: for each learning rate a training
of its own, and in each step read 32 waveforms, pad them, encode them without gradients, and train the same head on the
result. Its time for one step is measured, before and after ours, and multiplied by steps and learning rates;
evaluations are not counted against it. Ours is all that `speechssl benchmark` does for the row: encode train, dev and
test once, train all learning rates together, score dev and test. Both sides then train a few steps from the same head
on the same batches, and have to agree.

    python benchmarks/probe_grid.py --data PREPARED_FSDD
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from side_by_side import arguments, report
from torch import nn

from speechssl.data.cuts import open_corpus
from speechssl.data.prepare import prepare
from speechssl.downstream.ks.task import KeywordSpotting
from speechssl.interfaces import Upstream
from speechssl.probe.batches import HeadBatches
from speechssl.probe.encoders import Encoder, EncodingSettings
from speechssl.probe.heads import ProbeHead, build_head
from speechssl.probe.outcome import Place
from speechssl.probe.train import HeadSettings, Probe

LRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
TOLERANCE = 1e-4


def recomputing(
    task: KeywordSpotting, upstream: Upstream, draw: Callable[[int], np.ndarray], head: ProbeHead, lr: float, steps: int
) -> tuple[list[float], list[float]]:
    """Train one head as runners without a cache do; return loss and seconds of every step.

    Args:
        draw: gives the utterances of batch number k.
        head: changed in place.
    """
    examples = task.dataset("train")
    optimizer = torch.optim.Adam(head.parameters(), lr=lr)
    losses, seconds = [], []
    for number in range(steps):
        started = time.perf_counter()
        rows = draw(number).tolist()
        waveforms = [torch.from_numpy(examples.cuts.read(row)) for row in rows]
        with torch.no_grad():
            states, lengths = upstream(waveforms)
        outputs, lengths = head(torch.stack(states, dim=2), lengths)
        labels = {name: [values[row] for row in rows] for name, values in examples.labels.items()}
        loss = task.loss(outputs, lengths, labels)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), task.clip_norm)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    return losses, seconds


def new_head(task: KeywordSpotting, upstream: Upstream) -> ProbeHead:
    return build_head(task, upstream.num_layers + 1, upstream.hidden_size, upstream.downsample_rate, seed=0)


def agree(probe: Probe, steps: int) -> tuple[str, list[float]]:
    """Train both sides a few steps; end the program where they differ. Return a line, and seconds of the other side.

    They are compared by the loss of the next batch, each side's own way: weights themselves are no measure, as Adam
    makes steps of full size of gradients that are nothing but rounding.
    """
    _, train = probe.examples("train")
    draw, upstream = HeadBatches(train, probe.task.batch_size, seed=0).indices, probe.cache.upstream
    grid = probe.build(train, 0, LRS)
    probe.fit(grid, train, None, Place(None, 0, "check", {}), steps)
    following = train.batch(draw(steps))
    taken, largest = [], 0.0
    for number, lr in enumerate(LRS):
        head = new_head(probe.task, upstream)
        losses, seconds = recomputing(probe.task, upstream, draw, head, lr, steps + 1)
        outputs, lengths = grid.heads[number](following.features, following.lengths)
        ours = probe.task.loss(outputs, lengths, following.labels)["loss"].item()
        taken, largest = taken + seconds, max(largest, abs(ours - losses[-1]) / losses[-1])
    if largest > TOLERANCE:
        sys.exit(f"after {steps} steps the losses differ by {largest:.1e} of their value, more than {TOLERANCE:g}")
    return (
        f"losses after {steps} steps at {len(LRS)} learning rates differ by at most {largest:.1e} of their value",
        taken,
    )


def main() -> None:
    """Time the other side's steps, then ours, then the other side's steps again."""
    text = __doc__.splitlines()[0]
    given = arguments(text, data="", upstream="tera/base@random", steps=2000, batch=32, check=3)
    with tempfile.TemporaryDirectory() as folder:
        corpus = open_corpus(given.data or prepare("fsdd", None, Path(folder) / "fsdd"))
        every = max(1, given.steps // 20)
        task = KeywordSpotting(corpus, lrs=LRS, steps=given.steps, batch_size=given.batch, eval_every=every)
        cache = Encoder(given.upstream, EncodingSettings("cpu", Path(folder) / "cache", "float32", 10.0, 0), {}).on(
            corpus
        )[0]
        size = len(task.dataset("train").cuts)

        def draw(number: int) -> np.ndarray:
            return np.random.default_rng([0, number]).permutation(size)[: given.batch]

        taken = recomputing(task, cache.upstream, draw, new_head(task, cache.upstream), LRS[0], given.rounds)[1][1:]
        probe = Probe(task, corpus, cache, HeadSettings())
        started = time.perf_counter()
        outcome = probe.run(Place(Path(folder) / "run", 0, "timed", {}))
        ours = time.perf_counter() - started
        equality, after = agree(probe, given.check)
    step = statistics.median([*taken, *after])
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
    count = len(taken) + len(after)
    print(f"recomputing: {step * 1e3:.0f} ms a step (median of {count}), times {given.steps} x {len(LRS)}")
    print(f"cached grid: {phases}; accuracy {outcome.metrics['acc']:.1f} on test")
    sides = {"recomputing": [step * given.steps * len(LRS)], "cached grid": [ours]}
    report(f"{given.upstream} on {corpus.name}: {len(LRS)} learning rates, {given.steps} steps", sides, equality, given)


if __name__ == "__main__":
    main()
