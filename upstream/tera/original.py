"""The original TERA, to hold ours against: s3prl's own code on a published file.

s3prl (https://github.com/s3prl/s3prl, `s3prl/upstream/tera`) is where TERA was published. It is reached as any model of
its hub is, so that a checkpoint cannot run code.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

CODE = "s3prl/upstream/tera"
PACKAGES = ("s3prl", "torchaudio")
FIRST = 0  # our hidden state that its hidden states begin with


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return with which settings our model does what the original does: those that it has."""
    return {}


def load(
    path: Path, config: dict[str, Any], load_upstream: Callable[[str], nn.Module]
) -> Callable[[Tensor], list[Tensor]]:
    """Return the original as a function of one waveform (S,) to hidden states (T, D).

    Args:
        path: a published file.
        config: constructor arguments of our model of that file.
        load_upstream: by name.

    Raises:
        UserError: s3prl or torchaudio is missing, or s3prl does not read the file.
    """
    original = load_upstream(f"s3prl:tera:{path}")
    return lambda waveform: [state[0] for state in original([waveform]).hidden_states]
