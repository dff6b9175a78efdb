"""The names and shapes of the tensors in published files, and their map to ours (both ways, bit by bit)."""

from typing import Any

import torch
from torch import Tensor, nn

from speechssl.upstream.tera.model import Tera

INPUT = {
    "input_representations.spec_transform": "input_projection",
    "input_representations.LayerNorm": "input_norm",
}
LAYER = {
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "expand",
    "output.dense": "contract",
    "output.LayerNorm": "output_norm",
}
HEAD = {"dense": "dense", "LayerNorm": "norm", "output": "output"}
FUSED = ("query", "key", "value")  # in the order of our fused projection
PARTS = ("weight", "bias")


def modern_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict with LayerNorm parameters named weight and bias; old files say gamma and beta."""
    modern = {"gamma": "weight", "beta": "bias"}
    renamed = {}
    for name, tensor in state.items():
        owner, dot, part = name.rpartition(".")
        renamed[f"{owner}{dot}{modern.get(part, part)}"] = tensor
    return renamed


def expected_shapes(
    config: dict[str, Any], predicted: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return published names and shapes of the encoder (4 + 16 L) and the head (6) of a configuration."""
    D, wide = config["hidden_size"], config["intermediate_size"]
    channels = config["num_mels"] * (config.get("deltas", 0) + 1)
    linear = {"input_representations.spec_transform": (D, channels)}
    norms = ["input_representations.LayerNorm"]
    for layer in range(config["num_layers"]):
        prefix = f"encoder.layer.{layer}."
        linear |= {f"{prefix}attention.self.{name}": (D, D) for name in FUSED}
        linear |= {f"{prefix}attention.output.dense": (D, D)}
        linear |= {f"{prefix}intermediate.dense": (wide, D), f"{prefix}output.dense": (D, wide)}
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    return _shapes(linear, norms, D), _shapes({"dense": (D, D), "output": (predicted, D)}, ["LayerNorm"], D)


def _shapes(linear: dict[str, tuple[int, int]], norms: list[str], width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        shapes |= {f"{name}.{part}": (width,) for part in PARTS}
    return shapes


def _plain(num_layers: int) -> dict[str, str]:
    """Return {published: ours} of all modules of the encoder but the fused projections."""
    names = dict(INPUT)
    for layer in range(num_layers):
        names |= {f"encoder.layer.{layer}.{a}": f"layers.{layer}.{b}" for a, b in LAYER.items()}
    return names


def upstream_from_published(state: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Return the state dict of `Tera` for a complete `Transformer` dict."""
    ours = {f"{b}.{part}": state[f"{a}.{part}"] for a, b in _plain(num_layers).items() for part in PARTS}
    for layer in range(num_layers):
        prefix = f"encoder.layer.{layer}.attention.self"
        for part in PARTS:
            ours[f"layers.{layer}.attention.qkv.{part}"] = torch.cat([state[f"{prefix}.{n}.{part}"] for n in FUSED])
    return ours


def upstream_to_published(upstream: Tera) -> dict[str, Tensor]:
    """Return the `Transformer` dict of a model, corpus statistics folded into the input projection."""
    state = {name: tensor.detach().cpu() for name, tensor in upstream.state_dict().items()}
    theirs = {f"{a}.{part}": state[f"{b}.{part}"] for a, b in _plain(upstream.num_layers).items() for part in PARTS}
    for layer in range(upstream.num_layers):
        prefix = f"encoder.layer.{layer}.attention.self"
        for part in PARTS:
            pieces = state[f"layers.{layer}.attention.qkv.{part}"].chunk(3)
            theirs |= {f"{prefix}.{n}.{part}": piece.clone() for n, piece in zip(FUSED, pieces, strict=True)}
    if statistics := _statistics(upstream):
        mean, std = statistics
        weight, bias = f"{next(iter(INPUT))}.weight", f"{next(iter(INPUT))}.bias"
        scaled = theirs[weight].double() / std
        theirs[bias] = (theirs[bias].double() - scaled @ mean).float()
        theirs[weight] = scaled.float()
    return theirs


def head_from_published(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the head's part of the state dict of `TeraPretraining`."""
    return {f"head.{b}.{part}": state[f"{a}.{part}"] for a, b in HEAD.items() for part in PARTS}


def head_to_published(upstream: Tera, head: nn.Module) -> dict[str, Tensor]:
    """Return the `SpecHead` dict of a head, corpus statistics folded into its output."""
    state = {name: tensor.detach().cpu() for name, tensor in head.state_dict().items()}
    theirs = {f"{a}.{part}": state[f"{b}.{part}"] for a, b in HEAD.items() for part in PARTS}
    if statistics := _statistics(upstream):
        mean, std = statistics
        theirs["output.weight"] = (theirs["output.weight"].double() * std[:, None]).float()
        theirs["output.bias"] = (theirs["output.bias"].double() * std + mean).float()
    return theirs


def _statistics(upstream: Tera) -> tuple[Tensor, Tensor] | None:
    """Return corpus mean and std in float64 if the model uses them."""
    frontend = upstream.frontend
    if frontend is None or frontend.normalization != "corpus":
        return None
    return frontend.corpus_mean.double().cpu(), frontend.corpus_std.double().cpu()
