"""Published TERA and Mockingjay checkpoints (s3prl) to ours and back.

The weights lie under `Transformer` and `SpecHead` in every generation of the files; the configuration moved.
It is under `Settings` (2020), `Config` (early 2021) or `Upstream_Config` (since then). Query, key and value
are separate there and one matrix here, nothing else changes. Files are read without running code from them:
of the optimizer state that most of them carry, a stand-in takes the place of the one foreign class. The
reader is strict where the original is not: a missing, extra or wrong-shaped tensor, or a setting this model
does not have, is an error that names it.

The format has no corpus normalisation: for such a model `write` folds mean and std into the first and last
matrix.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.files import atomic_path, load_torch
from speechssl.upstream.tera.layout import (
    expected_shapes,
    head_from_published,
    head_to_published,
    modern_names,
    upstream_from_published,
    upstream_to_published,
)
from speechssl.upstream.tera.model import Tera
from speechssl.upstream.tera.pretrain import TeraPretraining
from speechssl.upstream.tera.settings import audio_section, frontend_arguments, require, task_arguments


class Schedule:
    """Stands in for the learning-rate schedule object inside the optimizer state; nothing of it is used."""


ALLOWED = [argparse.Namespace, (Schedule, "optimizers.WarmupLinearSchedule")]


class Published(NamedTuple):
    """What a published file holds, in our terms."""

    config: dict[str, Any]  # constructor arguments of Tera
    upstream_state: dict[str, Tensor]  # its state dict
    task_state: dict[str, Tensor]  # state dict of TeraPretraining without its upstream; empty if the head is not there
    task_config: dict[str, Any]  # constructor arguments of TeraPretraining


def read(path: str | Path) -> Published:
    """Read any generation of the format.

    Raises:
        UserError: not such a file, code in it, a damaged or incomplete one, or settings this model does not
        have.
    """
    content = load_torch(path, ALLOWED)
    if not isinstance(content, dict) or not isinstance(content.get("Transformer"), dict):
        found = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} is not a TERA checkpoint: expected weights under 'Transformer', found {found}")
    settings = _settings(content, path)
    weights = modern_names(content["Transformer"])
    config = _model_arguments(settings, weights, path)
    shapes, head_shapes = expected_shapes(config, _predicted(settings, config))
    _check("Transformer", weights, shapes, path)
    upstream_state = upstream_from_published(weights, config["num_layers"])
    task_state: dict[str, Tensor] = {}
    if content.get("SpecHead") is not None:
        head = modern_names(content["SpecHead"])
        _check("SpecHead", head, head_shapes, path)
        task_state = head_from_published(head)
    return Published(config, upstream_state, task_state, task_arguments(settings))


def write(upstream: Tera, path: str | Path, task: TeraPretraining | None = None) -> None:
    """Write the layout that s3prl loads (`Transformer`, `Upstream_Config`, and given a task `SpecHead`)."""
    weights = upstream_to_published(upstream)
    content: dict[str, Any] = {
        "Config": {},
        "Transformer": weights,
        "Upstream_Config": {
            "transformer": _transformer_section(upstream),
            "task": _task_section(upstream, task),
            **audio_section(upstream),
        },
    }
    if task is not None:
        content["SpecHead"] = head_to_published(upstream, task.head)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)  # given a path, it would write the name of the temporary file into the archive


def _settings(content: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return the dict that has the "transformer" section, wherever this generation keeps it."""
    older = content.get("Settings")
    places = [content.get("Config"), content.get("Upstream_Config")]
    places.append(older.get("Config") if isinstance(older, dict) else None)
    for place in places:
        if isinstance(place, dict) and isinstance(place.get("transformer"), dict):
            return place
    raise UserError(f"{path} has no model configuration: expected 'transformer' in Config, Upstream_Config or Settings")


def _model_arguments(settings: dict[str, Any], weights: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    section = settings["transformer"]
    names = {
        "hidden_size": ("hidden_size", int),
        "num_layers": ("num_hidden_layers", int),
        "num_heads": ("num_attention_heads", int),
        "intermediate_size": ("intermediate_size", int),
        "dropout": ("hidden_dropout_prob", float),
        "attention_dropout": ("attention_probs_dropout_prob", float),
        "initializer_range": ("initializer_range", float),
        "layer_norm_eps": ("layer_norm_eps", float),  # a number, or a string such as "1e-12"
    }
    config: dict[str, Any] = {}
    for ours, (theirs, kind) in names.items():
        if theirs not in section:
            raise UserError(f"{path}: the model configuration lacks {theirs!r}")
        try:
            config[ours] = kind(section[theirs])
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: {theirs} should be a number, found {section[theirs]!r}") from error
    # share_layer needs nothing: such files hold every layer's tensors.
    fixed = {"hidden_act": "gelu", "pre_layer_norm": False, "downsample_rate": 1}
    require(section, fixed, f"{path}: transformer")
    config |= frontend_arguments(settings, weights, path)
    return config


def _predicted(settings: dict[str, Any], config: dict[str, Any]) -> int:
    """Return how many channels the head predicts: those of the input, or for Mockingjay a linear spectrum."""
    target = (settings.get("audio") or {}).get("target", {})
    if target.get("feat_type") == "linear":
        return int(settings["audio"]["n_freq"])
    return config["num_mels"] * (config.get("deltas", 0) + 1)


def _check(owner: str, found: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], path: str | Path) -> None:
    for name in sorted(shapes.keys() - found.keys()):
        raise UserError(f"{path} lacks the tensor {owner}[{name!r}]")
    for name in sorted(found.keys() - shapes.keys()):
        raise UserError(f"{path} holds a tensor {owner}[{name!r}] that its configuration has no place for")
    for name, shape in shapes.items():
        if tuple(found[name].shape) != shape:
            raise UserError(f"{path}: {owner}[{name!r}] has shape {tuple(found[name].shape)}, configured is {shape}")


def _transformer_section(upstream: Tera) -> dict[str, Any]:
    layer = upstream.layers[0]
    return {
        "input_dim": -1 if upstream.frontend is not None else upstream.num_features,
        "hidden_size": upstream.hidden_size,
        "num_hidden_layers": upstream.num_layers,
        "num_attention_heads": layer.attention.num_heads,
        "intermediate_size": layer.expand.out_features,
        "hidden_act": "gelu",
        "hidden_dropout_prob": layer.dropout,
        "attention_probs_dropout_prob": layer.attention.dropout,
        "initializer_range": upstream.initializer_range,
        "layer_norm_eps": upstream.input_norm.eps,
        "share_layer": False,
        "pre_layer_norm": False,
    }


def _task_section(upstream: Tera, task: TeraPretraining | None) -> dict[str, Any]:
    section: dict[str, Any] = {
        "sequence_length": upstream.max_frames,
        "position_encoding_size": upstream.hidden_size,
    }
    if task is None:
        return section
    alteration = task.alteration
    return section | {
        "loss": task.loss.upper(),
        "mask_proportion": alteration.mask_proportion,
        "mask_consecutive_min": alteration.mask_consecutive_min,
        "mask_consecutive_max": alteration.mask_consecutive_max,
        "mask_allow_overlap": alteration.mask_allow_overlap,
        "mask_bucket_ratio": alteration.mask_bucket_ratio,
        "mask_frequency": alteration.mask_frequency,
        "noise_proportion": alteration.noise_proportion,
    }
