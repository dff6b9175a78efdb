"""Weighted averages of what a task reports, collected on the device and read only when they are logged."""

from typing import Any

import torch
from torch import Tensor


class Window:
    """Running sums of named scalars since the last log line.

    Values that are not finite are left out (and show up as a smaller weight), so one bad step does not hide
    the rest. Names may come and go: each is averaged over the weight of the times it was there.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.reset()

    def reset(self) -> None:
        self.names: tuple[str, ...] = ()
        self.sums = torch.zeros(0, dtype=torch.float64, device=self.device)
        self.weights = torch.zeros(0, dtype=torch.float64, device=self.device)

    def add(self, values: dict[str, Tensor], weight: Tensor) -> None:
        """Add scalars with a common weight (a scalar; nothing happens to the sums where it is 0)."""
        names = tuple(values)
        stacked = torch.stack([value.detach() for value in values.values()]).double()
        counted = torch.where(stacked.isfinite() & (weight > 0), weight.double(), 0.0)
        self._add(names, torch.where(counted > 0, stacked * counted, 0.0), counted)

    def _add(self, names: tuple[str, ...], sums: Tensor, weights: Tensor) -> None:
        if names == self.names:
            self.sums += sums
            self.weights += weights
            return
        new = [name for name in names if name not in self.names]
        self.names = (*self.names, *new)
        self.sums = torch.cat([self.sums, self.sums.new_zeros(len(new))])
        self.weights = torch.cat([self.weights, self.weights.new_zeros(len(new))])
        places = torch.tensor([self.names.index(n) for n in names], dtype=torch.long, device=self.device)
        self.sums.index_add_(0, places, sums)
        self.weights.index_add_(0, places, weights)

    def means(self) -> dict[str, float | None]:
        """Return the averages; None where no finite value was seen (a host sync)."""
        pairs = zip(self.names, self.sums.tolist(), self.weights.tolist(), strict=True)
        return {name: total / weight if weight > 0 else None for name, total, weight in pairs}

    def state(self) -> dict[str, Any]:
        """Return the sums on the CPU, for other ranks and for checkpoints (a host sync)."""
        return {
            "names": list(self.names),
            "sums": self.sums.cpu().clone(),
            "weights": self.weights.cpu().clone(),
        }

    def merge(self, states: list[dict[str, Any]]) -> "Window":
        """Add what `state()` of other windows returned."""
        for state in states:
            self._add(tuple(state["names"]), state["sums"].to(self.device), state["weights"].to(self.device))
        return self


class Meters:
    """What one rank has seen since the last log line: values of the task, gradient norms, audio and time."""

    def __init__(self, device: torch.device) -> None:
        self.values, self.updates = Window(device), Window(device)
        self.one = torch.ones((), dtype=torch.float64, device=device)
        self.audio = self.busy = self.waited = 0.0  # seconds of audio, of work (data included), of waiting for data

    def add(self, outputs: list[tuple[dict[str, Tensor], Tensor]], norm: Tensor, updated: Tensor) -> None:
        """Add a step: (values, weight) per micro-batch, gradient norm (), groups that were updated (G,)."""
        for values, weight in outputs:
            self.values.add(values, weight)
        good = updated.any()
        self.updates.add(
            {"grad_norm": torch.where(good, norm, torch.nan), "updated": updated.double().mean()}, self.one
        )

    def reset(self) -> None:
        self.values.reset()
        self.updates.reset()
        self.audio = self.busy = self.waited = 0.0

    def state(self) -> dict[str, Any]:
        times = {"audio": self.audio, "busy": self.busy, "waited": self.waited}
        return {"values": self.values.state(), "updates": self.updates.state(), **times}

    def load(self, states: list[dict[str, Any]]) -> None:
        """Continue where `state()` was taken, on one rank or (merged) on several."""
        self.reset()
        if states:
            self.values.merge([state["values"] for state in states])
            self.updates.merge([states[0]["updates"]])  # the same on all ranks
            self.audio = sum(state["audio"] for state in states)
            self.busy, self.waited = states[0]["busy"], states[0]["waited"]
