"""Parameter groups: weight decay on matrices, none on biases and norms."""

from typing import Any

from torch import nn


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
