"""Heads as they were at some steps of training, for numbers that are selected among checkpoints on test."""

import copy
import math
from collections.abc import Iterator
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from speechssl.train.checkpoint import on_cpu, write_tensors

FOLDER = "kept"


class KeptHeads:
    """The weights of all heads at evenly spaced steps.

    Args:
        folder: run directory, where they are kept until the result is there; None keeps them in memory.
        count: how many; 0 keeps nothing.
        steps: of the training.
        eval_every: steps between evaluations, at which heads can be kept.
    """

    def __init__(self, folder: Path | None, count: int, steps: int, eval_every: int):
        self.folder = None if folder is None else folder / FOLDER
        exact = [steps * (number + 1) / count for number in range(count)]
        self.steps = {min(steps, math.ceil(step / eval_every) * eval_every) for step in exact}
        self.memory: dict[int, dict[str, Tensor]] = {}

    def keep(self, step: int, heads: nn.Module) -> None:
        """Keep the heads if it is one of the steps."""
        if step not in self.steps:
            return
        state = {name: value.clone() for name, value in on_cpu(heads.state_dict()).items()}
        if self.folder is None:
            self.memory[step] = state
        else:
            write_tensors(self.folder / f"step-{step:08d}.safetensors", state)

    def heads(self, like: nn.Module, prefix: str) -> Iterator[nn.Module]:
        """Yield one head as it was at each of the steps, the earliest first.

        Args:
            like: a module of its shape, which stays as it is.
            prefix: of its names among those of all heads.
        """
        files = sorted(self.folder.glob("*.safetensors")) if self.folder is not None else []
        states = (load_file(file) for file in files) if files else (self.memory[step] for step in sorted(self.memory))
        for state in states:
            head = copy.deepcopy(like)
            head.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
            yield head
