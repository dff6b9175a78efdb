"""One head per learning rate, trained together on the same batches: the same result as training them one by
one.

Every head starts from the same weights, sees the same batches and the same random numbers, has its own
gradient norm to be clipped by, and its own learning rate; Adam works element by element, so one optimizer
serves them all. A head whose loss or gradient is not finite keeps its weights for that step and does not
touch the others.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.interfaces import DownstreamTask, PretrainTask
from speechssl.nn.pooling import masked_deviation, masked_mean
from speechssl.probe.batches import FeatureBatch
from speechssl.probe.heads import ProbeHead
from speechssl.probe.stack import HeadStack, stackable

Score = Callable[[nn.Module], float]


@dataclass(frozen=True)
class Selection:
    """How a head, or a fine-tuned model, was chosen.

    Attributes:
        lr: its learning rate; None where nothing was trained.
        dev: its main metric on dev; NaN where no dev was looked at.
        grid: {learning rate: best main metric on dev}.
        curves: {learning rate: [[step, main metric on dev], ...]}.
        layer_weights: of the mix of hidden states, or None where there is no mix.
        best_step: optimizer step its weights come from.
        steps: optimizer steps of every learning rate.
        epochs: the same in epochs, or None where training is counted in steps.
        metric: that selected; "" = the main one.
        dropped: {learning rate: step after which it was given up}.
        layer_curve: [[step, weights of the mix], ...] at the evaluations of the chosen learning rate.
    """

    lr: float | None
    dev: float
    grid: dict[str, float]
    curves: dict[str, list[list[float]]]
    layer_weights: list[float] | None
    best_step: int
    steps: int
    epochs: int | None = None
    metric: str = ""
    dropped: dict[str, int] = field(default_factory=dict)
    layer_curve: list[list[Any]] = field(default_factory=list)


class SelectedHead(nn.Module):
    """What is tested and exported of a grid: pooling and standardisation, if any, and one head.

    Args:
        probe: the head with its layer mix.
        standardize: applied to what the head reads, or None.
        deviations: the head reads mean and standard deviation over time of every layer.
    """

    def __init__(self, probe: nn.Module, standardize: nn.Module | None, deviations: bool = False):
        super().__init__()
        self.probe, self.standardize, self.deviations = probe, standardize, deviations

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map hidden states of frames (B, T, L + 1, D) to the outputs of the task."""
        if self.deviations:
            flat = states.flatten(2)
            parts = [pool(flat, lengths).unflatten(1, states.shape[2:]) for pool in (masked_mean, masked_deviation)]
            states, lengths = torch.cat(parts, dim=-1)[:, None], torch.ones_like(lengths)
        return self.probe(states if self.standardize is None else self.standardize(states), lengths)


class Grid(PretrainTask):
    """What the training loop sees of a probe.

    Besides the heads it holds, as buffers, all that selection needs, so that an interrupted run continues
    exactly.

    Args:
        task: gives loss and direction of the main metric.
        head: the initial head, copied once per learning rate.
        lrs: learning rates.
        num_evaluations: upper bound of the number of evaluations.
        standardize: applied to the hidden states before any head, or None.
        stacked: compute the heads as one where they can be. Pays on a GPU, which waits for every small operation to be
            started; on a CPU a loop is as fast.
        halving: {optimizer step: heads that go on after it}, see `halving_schedule`.
    """

    def __init__(
        self,
        task: DownstreamTask,
        head: ProbeHead,
        lrs: Sequence[float],
        num_evaluations: int,
        standardize: nn.Module | None = None,
        *,
        stacked: bool = False,
        halving: Mapping[int, int] | None = None,
    ):
        super().__init__()
        self.task, self.lrs, self.standardize = task, tuple(lrs), standardize
        self.heads = nn.ModuleList(copy.deepcopy(head) for _ in self.lrs)
        self.best = nn.ModuleList(copy.deepcopy(head).requires_grad_(False) for _ in self.lrs)
        self.stacked = stacked and stackable(head.head) and len(self.lrs) > 1
        self.stack: HeadStack | None = None
        self.halving = dict(halving or {})
        self.dev_metric, self.dev_mode = task.selector or (task.monitor, task.mode)
        size = len(self.lrs)
        self.register_buffer("best_value", torch.full((size,), torch.nan, dtype=torch.float64))
        self.register_buffer("best_step", torch.zeros(size, dtype=torch.long))
        self.register_buffer("curve", torch.full((num_evaluations, size), torch.nan, dtype=torch.float64))
        self.register_buffer("curve_steps", torch.zeros(num_evaluations, dtype=torch.long))
        self.register_buffer("mixes", torch.zeros(num_evaluations, size, head.mix.num_states))
        self.register_buffer("dropped_at", torch.zeros(size, dtype=torch.long))  # step; 0 = the head is still trained

    def optimizer(self) -> torch.optim.Optimizer:
        """Return one fused Adam, AdamW where the task decays weights, with a parameter group per learning rate."""
        groups = [{"params": list(head.parameters()), "lr": lr} for head, lr in zip(self.heads, self.lrs, strict=True)]
        decay = self.task.weight_decay
        return (
            torch.optim.AdamW(groups, weight_decay=decay, fused=True) if decay else torch.optim.Adam(groups, fused=True)
        )

    def gradient_groups(self) -> list[list[nn.Parameter]]:
        return [list(head.parameters()) for head in self.heads]

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """Return the sum of the heads' losses, and each of them."""
        losses, logged = [], {}
        for number, outputs, lengths in self.outputs(batch):
            lr = self.lrs[number]
            values = self.task.loss(outputs, lengths, batch.labels)
            loss = values.pop("loss")
            losses.append(torch.where(loss.isfinite(), loss, 0.0))
            logged[f"loss_{lr:g}"] = loss.detach()
            logged |= {f"{name}_{lr:g}": value.detach() for name, value in values.items()}
        return {"loss": torch.stack(losses).sum(), **logged}

    def outputs(self, batch: FeatureBatch) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield number, outputs and output lengths of every head still in training.

        They are computed as one, or one by one with the same random numbers.
        """
        states = self.prepare(batch.features)
        if self.stacked and len(self.active) > 1:
            heads = [self.heads[number] for number in self.active]
            if self.stack is None or not self.stack.holds(heads):
                self.stack = HeadStack(heads)
            outputs, lengths = self.stack(states, batch.lengths)
            yield from ((number, each, lengths) for number, each in zip(self.active, outputs, strict=True))
            return
        random = RandomState(states.device)
        for number in self.active:
            random.restore()
            yield number, *self.heads[number](states, batch.lengths)

    @property
    def active(self) -> list[int]:
        """Numbers of the heads that are still trained."""
        if not self.halving:
            return list(range(len(self.lrs)))
        return [number for number, step in enumerate(self.dropped_at.tolist()) if not step]

    def prepare(self, features: Tensor) -> Tensor:
        return features if self.standardize is None else self.standardize(features)

    @torch.no_grad()
    def evaluate(self, step: int, score: Score) -> None:
        """Score every head and keep those that are strictly better than all before.

        Args:
            step: optimizer steps done; an evaluation of the same step again (after resuming) changes nothing.
            score: main metric of a head on dev.
        """
        if step in self.curve_steps.tolist():
            return
        row = int((self.curve_steps > 0).sum())
        self.curve_steps[row] = step
        self.mixes[row] = torch.stack([head.mix.weights for head in self.heads])
        for number in self.active:
            head = self.heads[number]
            value = score(head)
            self.curve[row, number] = value
            if improves(value, float(self.best_value[number]), self.dev_mode):
                self.best_value[number], self.best_step[number] = value, step
                self.best[number].load_state_dict(head.state_dict())
        kept = self.halving.get(step, len(self.lrs))
        for number in self.ranked()[kept:]:
            if not self.dropped_at[number]:
                self.dropped_at[number] = step
                self.heads[number].zero_grad(set_to_none=True)

    def ranked(self) -> list[int]:
        """Return the numbers of the learning rates from the best dev value to the worst; equals in their order."""
        sign = -1.0 if self.dev_mode == "max" else 1.0
        values = [torch.inf if v != v else sign * v for v in self.best_value.tolist()]
        return sorted(range(len(values)), key=values.__getitem__)

    def selected(self) -> int:
        """Return the number of the learning rate with the best dev value; the first of equals."""
        return self.ranked()[0]

    def selection(self) -> Selection:
        """Return what was chosen, and from what."""
        chosen = self.selected()
        return Selection(
            lr=self.lrs[chosen],
            dev=float(self.best_value[chosen]),
            grid={f"{lr:g}": value for lr, value in zip(self.lrs, self.best_value.tolist(), strict=True)},
            curves=self.curves(),
            layer_weights=self.best[chosen].mix.weights.tolist(),
            best_step=int(self.best_step[chosen]),
            steps=self.task.steps,
            metric=self.dev_metric,
            dropped={f"{lr:g}": step for lr, step in zip(self.lrs, self.dropped_at.tolist(), strict=True) if step},
            layer_curve=[[step, self.mixes[row, chosen].tolist()] for row, step in enumerate(self._evaluated())],
        )

    def selected_head(self) -> SelectedHead:
        """Return what `selected` chose, as it is tested and exported."""
        return self.deployed(self.best[self.selected()])

    def deployed(self, head: nn.Module) -> SelectedHead:
        """Return one of the heads with all that comes before it."""
        deviations = self.task.pooled and self.task.pooling == "mean_std"
        return SelectedHead(head, self.standardize, deviations)

    def curves(self) -> dict[str, list[list[float]]]:
        """Return {learning rate: [[step, dev value], ...]}."""
        steps = self._evaluated()
        return {
            f"{lr:g}": [[step, value] for step, value in zip(steps, self.curve[: len(steps), i].tolist(), strict=True)]
            for i, lr in enumerate(self.lrs)
        }

    def _evaluated(self) -> list[int]:
        """Return the steps after which heads were scored on dev."""
        return self.curve_steps[self.curve_steps > 0].tolist()


HALVINGS = (0.02, 0.05, 0.2)  # shares of all steps after which the worse half of the learning rates is given up


def halving_schedule(size: int, steps: int, eval_every: int) -> dict[int, int]:
    """Return {optimizer step: heads that go on after it} of successive halving (Jamieson and Talwalkar, 2016).

    Heads are given up after 2, 5 and 20 % of the steps, each rounded up to the next evaluation on dev.
    """
    schedule, left = {}, size
    for share in HALVINGS:
        step = math.ceil(share * steps / eval_every) * eval_every
        if step < steps and step not in schedule and left > 1:
            left = schedule[step] = math.ceil(left / 2)
    return schedule


def improves(value: float, best: float, mode: str) -> bool:
    """Return whether a main metric is strictly better than the best so far, NaN where there is none yet.

    Args:
        value: NaN is never better.
        best: so far.
        mode: "max" or "min".
    """
    if best != best:
        return value == value
    return value > best if mode == "max" else value < best


class RandomState:
    """Lets several heads draw the same random numbers, as each would alone."""

    def __init__(self, device: torch.device):
        self.device = device
        self.cpu = torch.get_rng_state()
        self.gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)


@torch.no_grad()
def evaluate_head(grid: Grid, head: nn.Module, batches: Any, metric: Any, device: torch.device) -> Any:
    """Feed a split through a head into a metric, and return the metric; the head's mode is given back."""
    training = head.training
    head.eval()
    for batch in batches:
        moved = batch.to(device)
        outputs, lengths = head(grid.prepare(moved.features), moved.lengths)
        metric.update(outputs, lengths, batch.labels, batch.ids)
    head.train(training)
    return metric
