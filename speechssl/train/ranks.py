"""Devices and ranks: how Fabric is started, and the few exchanges between ranks that training needs.

Several ranks are processes started by torchrun (or, on GPUs, by Fabric itself). The model is not wrapped:
gradients are summed once per optimizer step (`gradients.py`), so that micro-batches may weigh differently or
be empty on one rank.
"""

import atexit
import logging
import os
from collections.abc import Iterable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed

from speechssl.errors import UserError, nearest

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")  # weights and optimizer state stay in float32
ACCELERATORS = ("auto", "cpu", "cuda")


def start_fabric(accelerator: str, devices: int | str, precision: str) -> Fabric:
    """Start Fabric on one device, or on as many as torchrun started processes for.

    Args:
        accelerator: "auto" is "cuda" where there is a GPU, else "cpu".
        devices: "auto" is what torchrun started, else one; a number has to agree with torchrun.
        precision: "auto" is "bf16-mixed" on a GPU, "32-true" on a CPU.
    """
    if accelerator == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer.accelerator=cuda, but PyTorch finds no CUDA device; use cpu, or see speechssl doctor")
    if precision == "auto":
        precision = "bf16-mixed" if accelerator == "cuda" else "32-true"
    if precision == "16-mixed" and accelerator == "cpu":
        raise UserError("trainer.precision=16-mixed needs a GPU; use 32-true or bf16-mixed on a CPU")
    world = int(os.environ.get("WORLD_SIZE", 1)) if distributed.is_torchelastic_launched() else 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1)) if world else _count(devices)
    if world and str(devices) not in ("auto", str(world)):
        raise UserError(f"trainer.devices={devices}, but torchrun started {world} processes; leave trainer.devices out")
    if not world and local > 1 and accelerator == "cpu":
        raise UserError(
            f"trainer.devices={devices} on a CPU: start the processes yourself, with "
            f"torchrun --nproc_per_node={local} -m speechssl.commands.main ..., and leave trainer.devices out"
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if max(world, local) > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    if distributed.is_initialized():
        atexit.unregister(_leave)
        atexit.register(_leave)
    if not fabric.is_global_zero:
        logging.getLogger("speechssl").setLevel(logging.WARNING)  # one rank tells what goes on
    return fabric


def _leave() -> None:
    """End the process group before the interpreter ends: its threads, left running, can abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise UserError(
            f"trainer.precision expects one of {known}, found {precision!r}{nearest(precision, PRECISIONS)}"
        )


def check_devices(accelerator: str, devices: int | str) -> None:
    if accelerator not in ACCELERATORS:
        raise UserError(f"trainer.accelerator expects one of {', '.join(ACCELERATORS)}, found {accelerator!r}")
    if str(devices) != "auto" and not (str(devices).isdecimal() and int(devices) > 0):
        raise UserError(f"trainer.devices expects auto or a number from 1 on, found {devices!r}")


def _count(devices: int | str) -> int:
    return 1 if str(devices) == "auto" else int(devices)


def gather(fabric: Fabric, value: Any) -> list[Any]:
    """Return the values (CPU tensors, containers, numbers) of all ranks, in rank order, on every rank."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    distributed.all_gather_object(values, value)
    return values


def from_first_rank(fabric: Fabric, value: Any) -> Any:
    """Return rank 0's value on every rank."""
    return fabric.broadcast(value) if fabric.world_size > 1 else value


def equalise(fabric: Fabric, tensors: Iterable[Tensor]) -> None:
    """Overwrite the tensors of all ranks with those of rank 0."""
    if fabric.world_size > 1:
        for tensor in tensors:
            distributed.broadcast(tensor.detach(), src=0)
