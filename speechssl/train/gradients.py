"""Gradients of one optimizer step: averaged by element over micro-batches and ranks, clipped in groups,
applied.

With a loss that is a mean over w_i elements in micro-batch i, the gradient of the mean over all elements is
sum_i w_i g_i / sum_i w_i, which is what one large batch would give. A group of parameters whose norm is not
finite is left as it is for this step. Nothing waits for the device, except on optimizers that are not fused.
"""

from collections.abc import Iterable
from itertools import chain

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class Gradients:
    """Accumulates and applies the gradients of an optimizer's parameters.

    Args:
        fabric: gives precision and ranks.
        optimizer: the optimizer to step.
        groups: parameters whose norms are clipped (and checked) together; each trainable parameter in exactly
            one.
        clip_norm: largest norm of a group; 0 does not clip.
    """

    def __init__(
        self, fabric: Fabric, optimizer: Optimizer, groups: Iterable[Iterable[Parameter]], clip_norm: float
    ) -> None:
        self.fabric, self.optimizer, self.clip_norm = fabric, optimizer, clip_norm
        self.wrapped = fabric.setup_optimizers(optimizer)
        self.scaler = getattr(fabric.strategy.precision, "scaler", None)  # for float16 only
        self.groups = [list(group) for group in groups]
        self.parameters = list(chain.from_iterable(self.groups))
        self._check_groups()
        fused = all(group.get("fused") for group in optimizer.param_groups)
        self.skips_on_device = fused and fabric.device.type != "cpu"
        self.total = torch.zeros((), dtype=torch.float64, device=fabric.device)
        self.unit: Tensor | None = None
        self.present: list[bool] = []

    def _check_groups(self) -> None:
        grouped = [id(parameter) for parameter in self.parameters]
        optimised = [id(p) for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad]
        if sorted(grouped) != sorted(optimised):
            raise ValueError(
                f"gradient_groups() must hold each of the optimizer's {len(optimised)} trainable "
                f"parameters exactly once, found {len(grouped)} entries that are or repeat "
                f"{len(set(grouped) & set(optimised))} of them"
            )

    def start(self) -> None:
        """Forget the gradients of the step before."""
        self.optimizer.zero_grad(set_to_none=True)
        self.total = torch.zeros_like(self.total)
        self.unit = None

    def add(self, loss: Tensor, weight: Tensor) -> None:
        """Add the gradient of a micro-batch's mean loss over `weight` elements."""
        weight = weight.detach().double()
        if self.unit is None:  # weights relative to the first keep the products near the loss: safe in float16
            self.unit = torch.where(weight > 0, weight, 1.0)
        self.fabric.backward(loss * (weight / self.unit).to(loss.dtype))
        self.total += weight

    def apply(self) -> tuple[Tensor, Tensor]:
        """Average, clip and step.

        Returns:
            norm: () of all updated groups together, before clipping.
            updated: (groups,) bool, False where a norm was not finite or nothing was added on any rank.
        """
        scale = self._average()
        norms = [self._clip(group, scale) for group in self.groups]
        norm = torch.stack([n.to(self.total.dtype) for n in norms])
        updated = norm.isfinite() & (self.total > 0)
        self._step(updated)
        return torch.where(updated, norm, 0.0).square().sum().sqrt(), updated

    def _average(self) -> Tensor:
        """Sum over ranks, and return the factor that turns the sums into the mean over elements."""
        unit = torch.ones_like(self.total) if self.unit is None else self.unit
        if self.fabric.world_size > 1:
            self._sum_over_ranks(unit)
            unit = torch.ones_like(unit)
        if self.scaler is not None and any(p.grad is not None for p in self.parameters):
            self.scaler.unscale_(self.optimizer)
        return torch.where(self.total > 0, unit / self.total, 0.0).float()

    def _sum_over_ranks(self, unit: Tensor) -> None:
        present = [p.grad is not None for p in self.parameters]
        if present != self.present:  # copied to the device only when it changes
            self.present, self.flags = (
                present,
                torch.tensor(present, dtype=torch.float64).to(self.total.device),
            )
        header = torch.cat([self.total.view(1), self.flags])
        distributed.all_reduce(header)
        self.total = header[0]
        if self.unit is None:  # this rank had only empty micro-batches: take part in what the others computed
            present = (header[1:] > 0).tolist()
        pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in self.parameters]
        flat = torch.cat(pieces).mul_(unit)
        distributed.all_reduce(flat)
        parts = flat.split([p.numel() for p in self.parameters])
        for parameter, part, there in zip(self.parameters, parts, present, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype) if there else None

    def _clip(self, group: list[Parameter], scale: Tensor) -> Tensor:
        """Scale a group's gradients, clip them, and return their norm before clipping."""
        gradients = [p.grad for p in group if p.grad is not None]
        if not gradients:
            return torch.zeros_like(scale)
        norm = get_total_norm(gradients) * scale
        factor = scale * (self.clip_norm / (norm + 1e-6)).clamp(max=1.0) if self.clip_norm else scale
        torch._foreach_mul_(gradients, factor)
        return norm

    def _step(self, updated: Tensor) -> None:
        if self.scaler is not None:  # the scaler leaves out the whole step when any group overflows
            if any(p.grad is not None for p in self.parameters):
                self.wrapped.step()
        elif self.skips_on_device:
            self._step_on_device(updated)
        else:
            self._step_on_host(updated)

    def _step_on_host(self, updated: Tensor) -> None:
        for group, good in zip(self.groups, updated.tolist(), strict=True):
            for parameter in [] if good else group:
                parameter.grad = None  # optimizers leave such parameters and their state alone
        self.wrapped.step()

    def _step_on_device(self, updated: Tensor) -> None:
        """Step group by group: where `found_inf` is 1 on the device, fused optimizers change nothing."""
        gradients = [[p.grad for p in group] for group in self.groups]
        for number in range(len(self.groups)):
            for other, (group, values) in enumerate(zip(self.groups, gradients, strict=True)):
                for parameter, value in zip(group, values, strict=True):
                    parameter.grad = value if other == number else None
            self.optimizer.found_inf = (~updated[number]).float()
            self.wrapped.step()
        del self.optimizer.found_inf
