"""Parameter groups: weight decay on matrices, none on biases and norms; lower rates for lower layers."""

import re
from typing import Any

from torch import nn

from speechssl.errors import UserError

LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")  # how every family calls the parameters of layer N


def decay_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return two optimizer groups of the trainable parameters, the first with `weight_decay`, the second with
    0.

    Vectors (biases, scales of norms) and whatever is called `bias` are not decayed: pulling them towards zero
    does not regularise. Empty groups are left out.
    """
    trainable = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    exempt = {name for name, p in trainable if p.ndim <= 1 or "bias" in name.rpartition(".")[2]}
    decayed = [p for name, p in trainable if name not in exempt]
    others = [p for name, p in trainable if name in exempt]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def layer_factors(module: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return decay ** (depth below the top) for every parameter: layer-wise learning-rate decay.

    The top layer has depth 0, layer 0 has depth L - 1. What is registered before the layers (embeddings, positions) is
    one deeper, what is registered after them (a last norm) belongs to the top. As in ELECTRA (Clark et al., 2020,
    https://arxiv.org/abs/2003.10555), where the top layer is one below the head, whose rate is apart here.

    Raises:
        UserError: a module with parameters but without numbered layers.
    """
    named = list(module.named_parameters())
    found = [LAYER.search(name) for name, _ in named]
    numbers = [int(match[1]) for match in found if match]
    if named and not numbers:
        raise UserError(
            "a learning-rate decay by layer needs parameters called layers.0., layers.1., ..., which "
            f"{type(module).__name__} does not have; use finetuning.layer_decay=1.0"
        )
    factors, current = {}, -1  # layer -1: what is below all
    for (_, parameter), match in zip(named, found, strict=True):
        current = int(match[1]) if match else (max(numbers) if current >= 0 else -1)
        factors[parameter] = decay ** (max(numbers) - current)
    return factors


def with_rates(
    groups: list[dict[str, Any]], lr: float, factors: dict[nn.Parameter, float] | None = None
) -> list[dict[str, Any]]:
    """Return optimizer groups with their "lr": one rate, or, with `factors`, split by rate, the highest first."""
    if factors is None:
        return [group | {"lr": lr} for group in groups]
    split = []
    for group in groups:
        by_factor: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors[parameter], []).append(parameter)
        ordered = sorted(by_factor.items(), reverse=True, key=lambda item: item[0])
        split += [group | {"params": members, "lr": lr * factor} for factor, members in ordered]
    return split
