"""Published SSAST checkpoints (`.pth`) to ours and back, pretrained and fine-tuned.

The files are state dicts of a module inside `DataParallel` ("module." in front of every name) and carry no
configuration: sizes are read from the tensors. Pretrained ones hold the input size, the mask embedding and both
predictors; fine-tuned ones a classifier, and a position table for another grid whose shape the file does not tell. Two
1000-class heads, left over from images, are dropped. The reader is strict where the original is not: a missing, extra
or wrong-shaped tensor is an error that names it.

The files do not tell mean and std of the spectrogram, every reader takes AudioSet's: for a model that has others,
`write` folds the difference into the patch embedding and the generator. The discriminator's scores cannot be kept
that way, only their scale.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechssl.errors import UserError
from speechssl.files import atomic_path, load_torch
from speechssl.upstream.ssast.model import Ssast
from speechssl.upstream.ssast.pretrain import SsastPretraining
from speechssl.upstream.ssast.spectrogram import AUDIOSET, STD_FACTOR

PREFIX = "module."
DEAD = re.compile(r"v\.head(_dist)?\.(weight|bias)")
LAYER = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.output",
    "norm2": "output_norm",
    "mlp.fc1": "expand",
    "mlp.fc2": "contract",
}
OUTSIDE = {"v.patch_embed.proj": "embedding", "v.norm": "norm"}
CLASSIFIER = {"mlp_head.0": "classifier.0", "mlp_head.1": "classifier.1"}
PREDICTORS = {"cpredlayer": "discriminator", "gpredlayer": "generator"}
PARTS = ("weight", "bias")
FINE_TUNING_STRIDE = {16: 10, 128: 128}  # mel bins from row to row in the authors' fine-tuning recipes
TIME_STRIDE = {16: 10, 2: 1}  # frames from column to column in them


class Published(NamedTuple):
    """What a published file holds, in our terms."""

    config: dict[str, Any]  # constructor arguments of Ssast
    upstream_state: dict[str, Tensor]  # its state dict
    task_state: dict[str, Tensor]  # state dict of SsastPretraining without its upstream; empty if fine-tuned
    task_config: dict[str, Any]  # constructor arguments of SsastPretraining


def read(path: str | Path) -> Published:
    """Read a pretrained or fine-tuned checkpoint.

    A fine-tuned model's strides are taken to be those of the authors' recipes (10 and 10; frame 128 and 1). For others
    give `frequency_stride`, `time_stride`, `position_grid` and `target_frames` when loading, and `num_heads` where
    hidden_size / 64 is not it.

    Raises:
        UserError: not such a file, code in it, or tensors that do not fit together.
    """
    state = _state(load_torch(path), path)
    config = _sizes(state, path)
    pretrained = "p_input_tdim" in state
    config |= _pretrained_grid(state, path) if pretrained else _fine_tuned_grid(state, config, path)
    ours = {new: _take(state, old, path) for old, new in _names(config["num_layers"], bool(config.get("num_classes")))}
    table = _take(state, "v.pos_embed", path)[0]
    tokens = torch.cat([_take(state, name, path) for name in _tokens(state)], dim=1)[0]
    D, rows, columns = config["hidden_size"], *config["position_grid"]
    if tuple(table.shape) != (len(tokens) + rows * columns, D):
        raise UserError(
            f"{path}: v.pos_embed holds {len(table)} positions, expected {len(tokens)} class tokens and "
            f"{rows} x {columns} patches"
        )
    mean, std = (torch.tensor(number) for number in AUDIOSET)  # the files do not tell
    ours |= {"spectrogram.mean": mean, "spectrogram.std": std}
    ours |= {"class_tokens": tokens, "class_positions": table[: len(tokens)]}
    ours["positions"] = table[len(tokens) :].reshape(rows, columns, D)
    config["class_tokens"] = len(tokens)
    task = _task_state(state, path) if "mask_embed" in state else {}
    extra = [name for name in state if not DEAD.fullmatch(name)]
    if extra:
        raise UserError(f"{path} holds tensors that SSAST has no place for: {', '.join(extra[:4])}")
    if pretrained:
        del config["position_grid"]
    return Published(config, {name: tensor.clone() for name, tensor in ours.items()}, task, _objective(task))


def write(upstream: Ssast, path: str | Path, task: SsastPretraining | None = None) -> None:
    """Write the layout that the authors' code and s3prl load.

    A model with a classifier is written as a fine-tuned one, any other as a pretrained one, with the predictors where
    the objective is given.
    """
    own = {name: tensor.detach().cpu() for name, tensor in upstream.state_dict().items()}
    own |= _embedding(own)
    fine_tuned = upstream.classifier is not None
    state = {old: own[new] for old, new in _names(upstream.num_layers, fine_tuned)}
    for name, token in zip(("v.cls_token", "v.dist_token"), own["class_tokens"], strict=False):
        state[name] = token[None, None]
    state["v.pos_embed"] = torch.cat([own["class_positions"], own["positions"].flatten(0, 1)])[None]
    if not fine_tuned:
        state["p_input_fdim"] = torch.tensor(upstream.num_mels)
        state["p_input_tdim"] = torch.tensor(upstream.input_frames)
    if task is not None and not fine_tuned:
        state["mask_embed"] = task.mask_embedding.detach().cpu()[None, None]
        for old, new in PREDICTORS.items():
            predictor = getattr(task, new)
            if predictor is not None:
                state |= {f"{old}.{name}": tensor for name, tensor in _predictor(new, predictor, own).items()}
    content = {PREFIX + name: tensor.contiguous().clone() for name, tensor in state.items()}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)  # given a path, it would write the name of the temporary file into the archive


def _change(own: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return a and b of (cell as the model wants it) = a * (cell as AudioSet's mean and std make it) + b."""
    mean, std = own["spectrogram.mean"].double(), own["spectrogram.std"].double()
    given = [float(torch.tensor(number)) for number in AUDIOSET]
    if float(std) <= 0 or [float(mean), float(std)] == given:  # none at all: it has not seen a corpus yet
        return torch.ones(()), torch.zeros(())
    return given[1] / std, (given[0] - mean) / (STD_FACTOR * std)


def _embedding(own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the patch embedding for cells normalised with AudioSet's mean and std."""
    factor, offset = _change(own)
    weight, bias = own["embedding.weight"], own["embedding.bias"]
    shift = offset * weight.double().sum(dim=(1, 2, 3))
    return {"embedding.weight": (weight * factor).float(), "embedding.bias": (bias + shift).float()}


def _predictor(name: str, predictor: torch.nn.Module, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a predictor for cells normalised with AudioSet's mean and std."""
    factor, offset = _change(own)
    state = {key: tensor.detach().cpu() for key, tensor in predictor.state_dict().items()}
    weight, bias = state["2.weight"], state["2.bias"]
    if name == "generator":
        factor, bias = 1 / factor, bias - offset
    return state | {"2.weight": (weight * factor).float(), "2.bias": (bias * factor).float()}


def _state(content: Any, path: str | Path) -> dict[str, Tensor]:
    """Return the state dict, its names without "module."."""
    if isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values()):
        state = {str(name).removeprefix(PREFIX): tensor for name, tensor in content.items()}
        if "v.patch_embed.proj.weight" in state:
            return state
    raise UserError(
        f"{path} is not an SSAST checkpoint: expected a state dict with module.v.patch_embed.proj.weight, "
        f"found {', '.join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__}"
    )


def _sizes(state: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    kernel = state["v.patch_embed.proj.weight"]
    if kernel.dim() != 4 or kernel.shape[1] != 1:
        raise UserError(
            f"{path}: v.patch_embed.proj.weight has shape {tuple(kernel.shape)}, expected (D, 1, mel, frames)"
        )
    layers = {int(match[1]) for name in state if (match := re.match(r"v\.blocks\.(\d+)\.", name))}
    config: dict[str, Any] = {
        "hidden_size": kernel.shape[0],
        "num_layers": len(layers),
        "patch_frequency": kernel.shape[2],
        "patch_time": kernel.shape[3],
    }
    if "mlp_head.1.weight" in state:
        config["num_classes"] = state["mlp_head.1.weight"].shape[0]
    return config


def _pretrained_grid(state: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    mels, frames = (int(_take(state, name, path)) for name in ("p_input_fdim", "p_input_tdim"))
    height, width = state["v.patch_embed.proj.weight"].shape[2:]
    grid = (mels // height, frames // width)
    return {"num_mels": mels, "input_frames": frames, "position_grid": grid}


def _fine_tuned_grid(state: dict[str, Tensor], config: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Guess the grid of a fine-tuned model from the number of its positions."""
    height, width = config["patch_frequency"], config["patch_time"]
    if height not in FINE_TUNING_STRIDE or width not in TIME_STRIDE:
        raise UserError(
            f"{path}: cannot tell the strides of patches of {height} x {width}; known are 16 x 16 and 128 x 2"
        )
    patches = state["v.pos_embed"].shape[1] - len(_tokens(state)) if "v.pos_embed" in state else 0
    strides = (FINE_TUNING_STRIDE[height], TIME_STRIDE[width])
    rows = (128 - height) // strides[0] + 1
    if patches % rows:  # not the recipe's overlap: patches side by side
        strides, rows = (height, width), 128 // height
    if patches < rows or patches % rows:
        raise UserError(f"{path}: {patches} positions are no grid of {height} x {width} patches over 128 mel bins")
    columns = patches // rows
    frames = (columns - 1) * strides[1] + width  # what the original adds at the end lies in no patch
    return {
        "position_grid": (rows, columns),
        "frequency_stride": strides[0],
        "time_stride": strides[1],
        "target_frames": frames,
        "input_frames": max(frames, 1024),
    }


def _tokens(state: dict[str, Tensor]) -> list[str]:
    return [name for name in ("v.cls_token", "v.dist_token") if name in state or name == "v.cls_token"]


def _names(num_layers: int, classifier: bool) -> list[tuple[str, str]]:
    """Return (published, ours) of all tensors that only change their name."""
    modules = OUTSIDE | (CLASSIFIER if classifier else {})
    for layer in range(num_layers):
        modules = modules | {f"v.blocks.{layer}.{old}": f"layers.{layer}.{new}" for old, new in LAYER.items()}
    return [(f"{old}.{part}", f"{new}.{part}") for old, new in modules.items() for part in PARTS]


def _task_state(state: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Take the mask embedding and those predictors that are there."""
    task = {"mask_embedding": _take(state, "mask_embed", path).flatten()}
    for old, new in PREDICTORS.items():
        if f"{old}.0.weight" in state:
            for part in ("0.weight", "0.bias", "2.weight", "2.bias"):
                task[f"{new}.{part}"] = _take(state, f"{old}.{part}", path)
    return task


def _objective(task: dict[str, Tensor]) -> dict[str, Any]:
    """Return the objective that needs just the predictors that are there."""
    there = [new for new in PREDICTORS.values() if f"{new}.0.weight" in task]
    return (
        {"objective": {"discriminator": "discriminative", "generator": "generative"}[there[0]]}
        if len(there) == 1
        else {}
    )


def _take(state: dict[str, Tensor], name: str, path: str | Path) -> Tensor:
    """Remove a tensor from the state dict and return it."""
    if name not in state:
        raise UserError(f"{path} lacks the tensor {PREFIX}{name}")
    return state.pop(name)
