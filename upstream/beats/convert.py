"""Published BEATs checkpoints (`.pt`) to ours and back: pretrained, fine-tuned and tokenizers.

A file holds `cfg`, the settings of its model, and `model`, the tensors; what `cfg` leaves out has the default of the
published code, and names in it that code does not read are ignored. Tensors keep their bits: query, key and value are
stacked, a kernel is flattened, and the bias table, which every layer brings a copy of, is kept once. The reader is
strict where the original is not: a missing, extra or wrong-shaped tensor, or copies of the table that differ, are
errors. OpenBEATs' files hold two more convolutions of ones that push masks through the model; they are dropped.

The files do not tell mean and std of the filter bank: they are taken to be AudioSet's. We write them into `cfg` where
they are others, as `fbank_mean` and `fbank_std`. The class names of a fine-tuned AudioSet model, which no setting of
ours holds, come from `read_labels`.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.files import atomic_path, load_torch
from speechssl.upstream.beats.masks import PATCH
from speechssl.upstream.beats.model import Beats
from speechssl.upstream.beats.spectrogram import AUDIOSET

DROPPED = ("patch_embedding_pad.", "raw2fbank_pad.")
UNIT_NORM = 1e-3  # by which a row of a codebook may be off
BOOKKEEPING = ("quantize.embedding.cluster_size", "quantize.embedding.embed_avg")  # nothing reads them
ALIASES = {
    f"encoder.pos_conv.0.parametrizations.weight.original{number}": f"encoder.pos_conv.0.weight_{letter}"
    for number, letter in enumerate("gv")  # how newer versions of PyTorch name the parts of a weight norm
}
SETTINGS = {  # published name: (ours, default of the published code)
    "encoder_embed_dim": ("hidden_size", 768),
    "encoder_layers": ("num_layers", 12),
    "encoder_attention_heads": ("num_heads", 12),
    "encoder_ffn_embed_dim": ("intermediate_size", 3072),
    "embed_dim": ("embedding_size", 512),
    "conv_pos": ("conv_positions", 128),
    "conv_pos_groups": ("conv_position_groups", 16),
    "num_buckets": ("num_buckets", 320),
    "max_distance": ("max_distance", 1280),
    "deep_norm": ("deep_norm", False),
    "layer_norm_first": ("pre_norm", False),
    "gru_rel_pos": ("gated", False),
    "activation_fn": ("activation", "gelu"),
    "dropout": ("dropout", 0.1),
    "attention_dropout": ("attention_dropout", 0.1),
    "activation_dropout": ("activation_dropout", 0.0),
    "dropout_input": ("input_dropout", 0.0),
    "encoder_layerdrop": ("layer_drop", 0.0),
    "layer_wise_gradient_decay_ratio": ("gradient_decay", 1.0),
}
REQUIRED = {"input_patch_size": (-1, PATCH), "conv_bias": (False, False), "relative_position_embedding": (False, True)}
OUTSIDE = {
    "layer_norm": "embedding_norm",
    "encoder.layer_norm": "encoder.norm",
}
LAYER = {
    "self_attn.out_proj": "attention.output",
    "self_attn_layer_norm": "attention_norm",
    "fc1": "expand",
    "fc2": "contract",
    "final_layer_norm": "output_norm",
}
QUANTIZER = {"quantize.embedding.weight": "quantizer.codebook", "quantize.cluster_size": "quantizer.cluster_size"}
PARTS = ("weight", "bias")
TOKENIZERS_WRITTEN = ("distilled",)  # kinds that there is a published layout for
TABLE = "self_attn.relative_attention_bias.weight"


class Published(NamedTuple):
    """What a published file holds, in our terms."""

    config: dict[str, Any]  # constructor arguments of Beats
    upstream_state: dict[str, Tensor]  # its state dict
    task_state: dict[str, Tensor]  # always empty: no file holds the parts that only pretraining needs
    task_config: dict[str, Any]  # likewise


def read(path: str | Path) -> Published:
    """Read a pretrained or fine-tuned checkpoint, or the encoder of a tokenizer.

    Raises:
        UserError: not such a file, code in it, or tensors that do not fit its settings.
    """
    cfg, state = _content(path)
    config = _config(cfg, path)
    _check(state, _shapes(config) | _quantizer_shapes(cfg, config, state), path)
    return Published(config, _encoder_state(state, config, path), {}, {})


def read_labels(path: str | Path) -> dict[int, str] | None:
    """Return class index -> name of a fine-tuned checkpoint (AudioSet's machine ids), None where it has none."""
    _content(path)  # refuses other files
    labels = load_torch(path).get("label_dict")
    return {int(index): str(name) for index, name in labels.items()} if isinstance(labels, dict) else None


def write(upstream: Beats, path: str | Path, task: nn.Module | None = None) -> None:
    """Write the layout that the published code loads, with the classifier where there is one.

    Args:
        upstream: the model.
        path: of the file.
        task: left out; the layout has no place for what only pretraining needs.
    """
    _save(_cfg(upstream), _published_state(upstream), path)


def holds_tokenizer(path: str | Path) -> bool:
    """Return whether a published file is a tokenizer: an encoder with a codebook."""
    return "quantize.embedding.weight" in _content(path)[1]


def read_tokenizer(path: str | Path) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """Return kind, constructor arguments and state dict of a published tokenizer.

    Raises:
        UserError: also where its codebook has not been initialised.
    """
    cfg, state = _content(path)
    if "quantize.embedding.weight" not in state:
        raise UserError(f"{path} is a BEATs model, not a tokenizer; load it with load_upstream")
    config = _config(cfg, path)
    _check(state, _shapes(config) | _quantizer_shapes(cfg, config, state), path)
    codebook = state["quantize.embedding.weight"]
    norms = codebook.norm(dim=1)
    if not bool(state["quantize.embedding.initted"].all()) or float((norms - 1).abs().max()) > UNIT_NORM:
        raise UserError(f"{path} has a codebook that was never initialised; only trained tokenizers can be used")
    ours = {f"upstream.{name}": tensor for name, tensor in _encoder_state(state, config, path).items()}
    for number in (0, 2):
        ours |= {f"projection.{number}.{part}": state[f"quantize_layer.{number}.{part}"].clone() for part in PARTS}
    ours |= {new: state[old].clone() for old, new in QUANTIZER.items()}
    ours["quantizer.initialised"] = torch.tensor(True)
    return "distilled", {"upstream": config, "num_codes": len(codebook), "code_size": codebook.shape[1]}, ours


def write_tokenizer(tokenizer: nn.Module, path: str | Path) -> None:
    """Write a distilled tokenizer as the published code loads it; counters that nothing reads are zeros.

    Raises:
        UserError: its codebook has not been initialised.
    """
    own = {name: tensor.detach().cpu() for name, tensor in tokenizer.state_dict().items()}
    if not bool(own["quantizer.initialised"]):
        raise UserError("the codebook of this tokenizer has not been initialised; train it first")
    state = _published_state(tokenizer.upstream)
    for number in (0, 2):
        state |= {f"quantize_layer.{number}.{part}": own[f"projection.{number}.{part}"] for part in PARTS}
    state |= {old: own[new] for old, new in QUANTIZER.items()}
    codebook = own["quantizer.codebook"]
    state |= dict(zip(BOOKKEEPING, (torch.zeros(len(codebook)), torch.zeros_like(codebook)), strict=True))
    state["quantize.embedding.initted"] = torch.ones(1)
    cfg = _cfg(tokenizer.upstream) | {"quant_n": codebook.shape[0], "quant_dim": codebook.shape[1]}
    _save(cfg, state, path)


def _content(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return settings and tensors of a file."""
    content = load_torch(path)
    if isinstance(content, dict) and isinstance(content.get("cfg"), dict) and isinstance(content.get("model"), dict):
        state = {ALIASES.get(name, name): tensor for name, tensor in content["model"].items()}
        if "patch_embedding.weight" in state and all(isinstance(value, Tensor) for value in state.values()):
            return content["cfg"], {n: t for n, t in state.items() if not n.startswith(DROPPED)}
    found = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
    raise UserError(
        f"{path} is not a BEATs checkpoint: expected cfg, and model with patch_embedding.weight, found {found}"
    )


def _config(cfg: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Return constructor arguments for the settings of a file."""
    for name, (default, needed) in REQUIRED.items():
        if cfg.get(name, default) != needed:
            raise UserError(f"{path} has {name}={cfg.get(name, default)}; this BEATs is made for {name}={needed}")
    config = {ours: cfg.get(theirs, default) for theirs, (ours, default) in SETTINGS.items()}
    if cfg.get("finetuned_model", False):
        config["num_classes"] = cfg.get("predictor_class", 527)
        config["classifier_dropout"] = cfg.get("predictor_dropout", 0.1)
    if "fbank_mean" in cfg and "fbank_std" in cfg:
        config |= {"mean": float(cfg["fbank_mean"]), "std": float(cfg["fbank_std"])}
    return config


def _cfg(upstream: Beats) -> dict[str, Any]:
    """Return the settings of a model as the published code names them."""
    if not upstream.spectrogram.known:
        raise UserError("this BEATs has no mean and std yet; give it statistics (set_statistics) before it is written")
    config = _settings(upstream)
    cfg = {theirs: config[ours] for theirs, (ours, _) in SETTINGS.items()}
    cfg |= {name: needed for name, (_, needed) in REQUIRED.items()}
    cfg["finetuned_model"] = upstream.classifier is not None
    if upstream.classifier is not None:
        cfg |= {"predictor_class": upstream.classifier.out_features, "predictor_dropout": upstream.classifier_dropout}
    statistics = upstream.spectrogram.mean, upstream.spectrogram.std
    if any(float(ours) != float(torch.tensor(given)) for ours, given in zip(statistics, AUDIOSET, strict=True)):
        cfg |= {"fbank_mean": float(statistics[0]), "fbank_std": float(statistics[1])}
    return cfg


def _settings(upstream: Beats) -> dict[str, Any]:
    """Return the constructor arguments of a model that its published file depends on."""
    stack = upstream.encoder.stack
    return {
        **upstream.stack_config,
        **upstream.position_config,
        "num_layers": upstream.num_layers,
        "embedding_size": upstream.embedding.out_features,
        "input_dropout": upstream.input_dropout,
        "layer_drop": stack.layer_drop,
        "gradient_decay": stack.gradient_decay,
        "num_classes": 0 if upstream.classifier is None else upstream.classifier.out_features,
    }


def _shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in the file of a model."""
    D, E, inner = config["hidden_size"], config["embedding_size"], config["intermediate_size"]
    H, K, groups = config["num_heads"], config["conv_positions"], config["conv_position_groups"]
    shapes: dict[str, tuple[int, ...]] = {"patch_embedding.weight": (E, 1, PATCH, PATCH)}
    shapes |= {f"layer_norm.{part}": (E,) for part in PARTS}
    if E != D:
        shapes |= _linear("post_extract_proj", D, E)
    shapes |= {f"encoder.layer_norm.{part}": (D,) for part in PARTS}
    shapes |= {"encoder.pos_conv.0.weight_g": (1, 1, K), "encoder.pos_conv.0.weight_v": (D, D // groups, K)}
    shapes["encoder.pos_conv.0.bias"] = (D,)
    glu = config["activation"] == "glu"
    for number in range(config["num_layers"]):
        layer = f"encoder.layers.{number}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{name}", D, D)
        shapes[layer + TABLE] = (config["num_buckets"], H)
        if config["gated"]:
            shapes |= _linear(f"{layer}self_attn.grep_linear", 8, D // H)
            shapes[f"{layer}self_attn.grep_a"] = (1, H, 1, 1)
        shapes |= _linear(f"{layer}fc1.linear", 2 * inner, D) if glu else _linear(f"{layer}fc1", inner, D)
        shapes |= _linear(f"{layer}fc2", D, inner)
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{layer}{norm}.{part}": (D,) for part in PARTS}
    if config.get("num_classes"):
        shapes |= _linear("predictor", config["num_classes"], D)
    return shapes


def _quantizer_shapes(
    cfg: dict[str, Any], config: dict[str, Any], state: dict[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return what a tokenizer's file holds besides; nothing for other files."""
    if "quantize.embedding.weight" not in state:
        return {}
    V, d, D = cfg.get("quant_n", 1024), cfg.get("quant_dim", 256), config["hidden_size"]
    shapes = _linear("quantize_layer.0", D, D) | _linear("quantize_layer.2", d, D)
    shapes |= {"quantize.embedding.weight": (V, d), "quantize.embedding.embed_avg": (V, d)}
    return shapes | {
        "quantize.embedding.cluster_size": (V,),
        "quantize.cluster_size": (V,),
        "quantize.embedding.initted": (1,),
    }


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _check(state: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], path: str | Path) -> None:
    """Raise UserError for the first tensor that is missing, extra or of another shape."""
    for name, shape in shapes.items():
        if name not in state:
            raise UserError(f"{path} lacks the tensor {name} that its cfg asks for")
        if tuple(state[name].shape) != shape:
            raise UserError(f"{path}: {name} has shape {tuple(state[name].shape)}, its cfg asks for {shape}")
    extra = [name for name in state if name not in shapes]
    if extra:
        raise UserError(f"{path} holds tensors that its cfg gives no place: {', '.join(extra[:4])}")


def _names(config: dict[str, Any]) -> dict[str, str]:
    """Return published -> our names of all tensors that only change their name."""
    modules = dict(OUTSIDE)
    if config["embedding_size"] != config["hidden_size"]:
        modules["post_extract_proj"] = "projection"
    if config.get("num_classes"):
        modules["predictor"] = "classifier"
    inside = LAYER | ({"self_attn.grep_linear": "attention.gate"} if config["gated"] else {})
    for number in range(config["num_layers"]):
        for old, new in inside.items():
            old = "fc1.linear" if old == "fc1" and config["activation"] == "glu" else old
            modules[f"encoder.layers.{number}.{old}"] = f"encoder.stack.layers.{number}.{new}"
    names = {f"{old}.{part}": f"{new}.{part}" for old, new in modules.items() for part in PARTS}
    return names | {
        "encoder.pos_conv.0.weight_g": "encoder.positions.magnitude",
        "encoder.pos_conv.0.weight_v": "encoder.positions.direction",
        "encoder.pos_conv.0.bias": "encoder.positions.bias",
    }


def _encoder_state(state: dict[str, Tensor], config: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return our state dict of a checked file's tensors."""
    ours = {new: state[old].clone() for old, new in _names(config).items()}
    ours["embedding.weight"] = state["patch_embedding.weight"].flatten(1).clone()
    mean, std = (config.get(name, value) for name, value in zip(("mean", "std"), AUDIOSET, strict=True))
    ours |= {"spectrogram.mean": torch.tensor(mean), "spectrogram.std": torch.tensor(std)}
    table = state[f"encoder.layers.0.{TABLE}"]
    ours["encoder.stack.bias.table"] = table.clone()
    for number in range(config["num_layers"]):
        theirs, layer = f"encoder.layers.{number}.", f"encoder.stack.layers.{number}.attention."
        if not torch.equal(state[theirs + TABLE], table):
            raise UserError(f"{path}: {theirs}{TABLE} differs from that of layer 0; all layers share one table")
        for part in PARTS:
            stacked = [state[f"{theirs}self_attn.{letter}_proj.{part}"] for letter in "qkv"]
            ours[f"{layer}qkv.{part}"] = torch.cat(stacked)
        if config["gated"]:
            ours[f"{layer}gate_scale"] = state[f"{theirs}self_attn.grep_a"].flatten().clone()
    return ours


def _published_state(upstream: Beats) -> dict[str, Tensor]:
    """Return the tensors of a model under their published names."""
    own = {name: tensor.detach().cpu() for name, tensor in upstream.state_dict().items()}
    settings = _settings(upstream)
    state = {old: own[new] for old, new in _names(settings).items()}
    state["patch_embedding.weight"] = own["embedding.weight"].unflatten(1, (1, PATCH, PATCH))
    for number in range(settings["num_layers"]):
        theirs, layer = f"encoder.layers.{number}.self_attn.", f"encoder.stack.layers.{number}.attention."
        state[f"encoder.layers.{number}.{TABLE}"] = own["encoder.stack.bias.table"]
        for part in PARTS:
            for letter, tensor in zip("qkv", own[f"{layer}qkv.{part}"].chunk(3), strict=True):
                state[f"{theirs}{letter}_proj.{part}"] = tensor
        if settings["gated"]:
            state[f"{theirs}grep_a"] = own[f"{layer}gate_scale"].view(1, -1, 1, 1)
    return state


def _save(cfg: dict[str, Any], state: dict[str, Tensor], path: str | Path) -> None:
    content = {"cfg": cfg, "model": {name: tensor.contiguous().clone() for name, tensor in state.items()}}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)  # given a path, it would write the name of the temporary file into the archive
