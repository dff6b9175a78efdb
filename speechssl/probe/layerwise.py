"""One result of a task that trains nothing: measure every hidden state on dev, and the best of them on test."""

import time
from typing import Any

import torch
from torch import Tensor

from speechssl.data.cuts import Corpus
from speechssl.interfaces import Examples, LayerwiseTask, Metric
from speechssl.probe.cache import FeatureCache
from speechssl.probe.grid import Selection
from speechssl.probe.keys import readable
from speechssl.probe.outcome import Outcome, Place, scored


class Layerwise:
    """A task without training on the cached features of one upstream.

    Args:
        task: the task on its corpus.
        corpus: where utterances come from.
        cache: of the upstream.
        device: where features are compared, "cpu" or "cuda".
    """

    def __init__(self, task: LayerwiseTask, corpus: Corpus, cache: FeatureCache, device: str):
        self.task, self.corpus, self.cache, self.device = task, corpus, cache, torch.device(device)
        self.unreadable = 0
        self.seconds: dict[str, float] = {}

    def run(self, place: Place) -> Outcome:
        """Choose a hidden state on dev and measure it on test; nothing depends on the seed."""
        self.unreadable, self.seconds = 0, dict.fromkeys(("features", "training", "test"), 0.0)
        layers = list(range(self.cache.upstream.num_layers + 1))
        _, metrics, dev_size = self._measure("dev", layers, "training")
        values = [metric.compute()[self.task.monitor] for metric in metrics]
        best = (max if self.task.mode == "max" else min)(values)
        chosen = values.index(best)
        examples, found, test_size = self._measure("test", [chosen], "test")
        return Outcome(
            head=None,
            selection=self._selection(chosen, values),
            metrics=found[0].compute(),
            scored=scored(found[0], examples.cuts),
            sizes={"dev": dev_size, "test": test_size},
            unreadable=self.unreadable,
            seconds=dict(self.seconds),
            notes={"layer": chosen},
        )

    def _selection(self, chosen: int, values: list[float]) -> Selection:
        return Selection(
            lr=None,
            dev=values[chosen],
            grid={f"layer {number}": value for number, value in enumerate(values)},
            curves={},
            layer_weights=[float(number == chosen) for number in range(len(values))],
            best_step=0,
            steps=0,
        )

    def _measure(self, split: str, layers: list[int], phase: str) -> tuple[Examples, list[Metric], int]:
        """Return the readable utterances of a split, a metric for each of the layers, and how many there are."""
        started = time.monotonic()
        examples = self.task.dataset(split)
        self.cache.fill(self.corpus, examples.cuts, frames=True)
        kept = readable(self.corpus, examples.cuts, self.cache.unreadable, split)
        self.unreadable += len(examples.cuts) - len(kept)
        labels = {name: [values[i] for i in kept] for name, values in examples.labels.items()}
        examples = Examples(examples.cuts.select(kept), labels)
        features: Any = self.cache.frames(self.corpus, examples.cuts)
        self.seconds["features"] += time.monotonic() - started
        started = time.monotonic()

        def states(layer: int) -> list[Tensor]:
            return [frames.to(self.device) for frames in features.layer(layer)]

        metrics = self.task.measure(examples, states, layers)
        self.seconds[phase] += time.monotonic() - started
        return examples, metrics, len(kept)
