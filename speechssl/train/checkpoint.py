"""Checkpoints that are whole or absent, and the exported model.

A checkpoint is a folder `checkpoints/step-00001000/` with `state.pt` (tensors and plain containers, loadable
with `weights_only=True`) and `checkpoint.json` (step, sha256 of the state, and the settings the result
depends on). It is written beside its place and renamed into it.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from speechssl.errors import UserError
from speechssl.files import atomic_path, load_torch, read_json, sha256, unwritable, write_json
from speechssl.interfaces import PretrainTask, Tokenizer, Upstream
from speechssl.train.settings import plain
from speechssl.version import __version__

LOGGER = logging.getLogger(__name__)
MODEL_TYPE = "speechssl"  # by which transformers knows our models
FORMAT = 1  # of checkpoint.json and of an exported folder's config.json
UPSTREAM_PREFIX = "upstream."  # of the exported model's tensors in a pretraining task's state dict


def checkpoints(run_dir: Path) -> dict[int, Path]:
    """Return {step: folder} of a run directory's complete checkpoints, oldest first."""
    found = {}
    for folder in (run_dir / "checkpoints").glob("step-*"):
        number = folder.name.removeprefix("step-")
        if number.isdecimal() and (folder / "checkpoint.json").is_file():
            found[int(number)] = folder
    return dict(sorted(found.items()))


def save_checkpoint(run_dir: Path, step: int, state: dict[str, Any], settings: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of a step, then remove all but the newest `keep`.

    Checkpoints of later steps are removed too: training has fallen back behind them because they were
    damaged.
    """
    folder = run_dir / "checkpoints" / f"step-{step:08d}"
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with open(temporary / "state.pt", "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # what a full disk looks like from PyTorch's writer
            raise UserError(unwritable(file.name, error)) from error
        os.fsync(file.fileno())
    description = {
        "format": FORMAT,
        "step": step,
        "sha256": sha256(temporary / "state.pt"),
        "version": __version__,
    }
    write_json(temporary / "checkpoint.json", {**description, "settings": settings})
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(temporary, folder)
    existing = checkpoints(run_dir)
    kept = [number for number in existing if number <= step][-keep:]
    for number in existing.keys() - set(kept):
        shutil.rmtree(existing[number])
    return folder


def newest_checkpoint(run_dir: str | Path) -> Path | None:
    """Return the newest intact checkpoint folder of a run directory, or None where there are none.

    Raises:
        UserError: there are checkpoints, but all are damaged.
    """
    existing = checkpoints(Path(run_dir))
    for folder in reversed(existing.values()):
        try:
            expected = read_json(folder / "checkpoint.json")["sha256"]
        except (UserError, KeyError, TypeError):
            expected = None
        if (folder / "state.pt").is_file() and sha256(folder / "state.pt") == expected:
            return folder
        LOGGER.warning("checkpoint %s is damaged (its sha256 differs); trying the one before", folder)
    if existing:
        raise UserError(
            f"every checkpoint in {Path(run_dir) / 'checkpoints'} is damaged (sha256 differs); "
            "copy it again, or remove that folder to start from the beginning"
        )
    return None


def load_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (state, settings) of a checkpoint folder."""
    description = read_json(folder / "checkpoint.json")
    if description["format"] > FORMAT:
        raise UserError(
            f"{folder} has format {description['format']}, this version reads up to {FORMAT}; upgrade speechssl"
        )
    return load_torch(folder / "state.pt"), description["settings"]


def description(upstream: Upstream) -> dict[str, Any]:
    """Return what config.json says for transformers and other readers, beside what rebuilds the model."""
    return {
        "model_type": MODEL_TYPE,
        "architectures": ["SpeechsslModel"],
        "hidden_size": upstream.hidden_size,
        "num_hidden_layers": upstream.num_layers,
        "sampling_rate": upstream.sample_rate,  # Hz
        "downsample_rate": upstream.downsample_rate,  # samples per frame
    }


def export_upstream(
    upstream: Upstream,
    folder: str | Path,
    *,
    task: PretrainTask | None = None,
    task_arguments: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
) -> Path:
    """Write `model.safetensors` and `config.json`, which `load_upstream(folder)` reads.

    Args:
        upstream: a model the registry built (it knows its family and configuration).
        folder: where to write; files of the same name are replaced.
        task: its pretraining objective; its own tensors (prediction heads) go to `pretraining.safetensors`.
        task_arguments: what the objective was built with, beside the upstream.
        training: a summary of how the model was trained, for config.json.
    """
    folder = Path(folder)
    state = on_cpu(upstream.state_dict())
    content = description(upstream) | {
        "format": FORMAT,
        "family": upstream.family,
        "config": plain(upstream.config),
        "weights_sha256": write_tensors(folder / "model.safetensors", state),
        "parameters": sum(p.numel() for p in upstream.parameters()),
        "version": __version__,
        "training": training or {},
    }
    if task is not None:
        head = {k: v for k, v in task.state_dict().items() if not k.startswith(UPSTREAM_PREFIX)}
        if head:
            content["task"] = plain(task_arguments or {})
            content["pretraining_sha256"] = write_tensors(folder / "pretraining.safetensors", on_cpu(head))
    write_json(folder / "config.json", content)
    return folder


def export_tokenizer(tokenizer: Tokenizer, folder: str | Path, training: dict[str, Any] | None = None) -> Path:
    """Write `tokenizer.safetensors` and `config.json`, which `load_tokenizer(folder)` reads.

    One with an encoder also leaves that as `model.safetensors`, so that `load_upstream(folder)` reads it.

    Args:
        tokenizer: one the registry built (it knows its family, kind and configuration).
        folder: where to write; files of the same name are replaced.
        training: a summary of how the tokenizer was made, for config.json.
    """
    folder, upstream = Path(folder), getattr(tokenizer, "upstream", None)
    content = {
        "format": FORMAT,
        "family": tokenizer.family,
        "tokenizer": {
            "kind": tokenizer.kind,
            "config": plain(tokenizer.config),
            "sha256": write_tensors(folder / "tokenizer.safetensors", on_cpu(tokenizer.state_dict())),
        },
    }
    if isinstance(upstream, Upstream):
        content["config"] = plain(upstream.config)
        content["weights_sha256"] = write_tensors(folder / "model.safetensors", on_cpu(upstream.state_dict()))
    parameters = sum(p.numel() for p in tokenizer.parameters())
    content |= {"parameters": parameters, "version": __version__, "training": training or {}}
    write_json(folder / "config.json", content)
    return folder


def find_export(path: Path) -> Path | None:
    """Return the exported folder of a run directory (its last stage's with an encoder, if it has several), or None.

    Where all that its stages have left so far are tokenizers, the last of these.
    """
    stages = sorted(path.glob("stages/*/export"), reverse=True)
    found = [folder for folder in (path, path / "export", *stages) if (folder / "config.json").is_file()]
    encoders = (folder for folder in found if "tokenizer" not in read_json(folder / "config.json"))
    return next(encoders, found[0] if found else None)


def on_cpu(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Copy the tensors: safetensors refuses storage that two of them share."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in state.items() if isinstance(v, torch.Tensor)}


def write_tensors(path: Path, state: dict[str, torch.Tensor]) -> str:
    """Write a safetensors file atomically and return its sha256."""
    with atomic_path(path) as temporary:
        try:
            save_file(state, temporary)
        except SafetensorError as error:  # also what a full disk looks like
            raise UserError(unwritable(path, error)) from error
        return sha256(temporary)
