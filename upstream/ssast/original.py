"""The authors' SSAST, to hold ours against: their model as s3prl carries it, on a published file.

s3prl (https://github.com/s3prl/s3prl, `s3prl/upstream/ssast`) has the authors' code, which builds on timm 0.4.5 and on
no other version. That one still asks for `torch._six`, which PyTorch has given up; a stand-in with the few names it
wants from there lets it be imported. It exists for patches of 16 x 16 and 128 x 2, 12 layers and three widths.

s3prl cuts the waveform into windows and lets patches overlap; ours does the same when it is told to.
"""

import collections.abc
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.errors import UserError

CODE = "s3prl/upstream/ssast"
PACKAGES = ("s3prl", "torchaudio", "timm")
FIRST = 1  # its hidden states begin with the output of the first layer
WINDOW = 1.0  # seconds, s3prl's default
SIZES = {192: "tiny", 384: "small", 768: "base"}
STRIDES = {(16, 16): (10, 10), (128, 2): (128, 1)}  # of mel bins and frames, by the size of a patch
FIXED = {"num_layers": 12, "num_mels": 128, "class_tokens": 2, "num_classes": 0}


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return with which settings our model does what the original does.

    Raises:
        UserError: the original has no model of this size.
    """
    patch = (config["patch_frequency"], config["patch_time"])
    heads = config.get("num_heads") or config["hidden_size"] // 64
    other = [f"{key}={config[key]}" for key, value in FIXED.items() if config.get(key, value) != value]
    if patch not in STRIDES or config["hidden_size"] not in SIZES or heads * 64 != config["hidden_size"] or other:
        raise UserError(
            f"{CODE} has 12 layers of 192, 384 or 768 (64 per head) on pretrained patches of 16 x 16 or 128 x 2; this "
            f"is {config['num_layers']} layers of {config['hidden_size']} ({heads} heads), patches of "
            f"{patch[0]} x {patch[1]}{', ' if other else ''}{', '.join(other)}"
        )
    frequency, time = STRIDES[patch]
    strides = {"frequency_stride": frequency, "time_stride": time}
    own = {"frequency_pooling": "concat", "target_frames": None, "positions": "official"}
    return {"superb_window": WINDOW, **own, **strides}


def load(
    path: Path, config: dict[str, Any], load_upstream: Callable[[str], nn.Module]
) -> Callable[[Tensor], list[Tensor]]:
    """Return the original as a function of one waveform (S,) to hidden states (T, D).

    Args:
        path: a published file of a pretrained model.
        config: constructor arguments of our model of that file, as `settings` accepts them.
        load_upstream: by name; not needed.

    Raises:
        UserError: a package is missing, or s3prl does not read the file.
    """
    variant = "p" if config["patch_time"] == 16 else "f"
    _import_timm()
    try:
        from s3prl.upstream.ssast.expert import UpstreamExpert
    except (ImportError, OSError) as error:
        raise UserError(f"{CODE} cannot be imported ({error}); pip install 'speechssl[s3prl]'") from error
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads them
            expert = UpstreamExpert(str(path), f"{SIZES[config['hidden_size']]}_{variant}", WINDOW).eval()
    except (AssertionError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{CODE} does not read {path} ({type(error).__name__}: {error})") from error

    @torch.no_grad()
    def encode(waveform: Tensor) -> list[Tensor]:
        return [state[0] for state in expert([waveform])["hidden_states"]]

    return encode


def _import_timm() -> None:
    """Import timm 0.4.5, with what PyTorch has given up of the names that it asks for."""
    six = ModuleType("torch._six")
    six.container_abcs, six.string_classes, six.int_classes, six.inf = collections.abc, (str,), int, float("inf")
    absent = "torch._six" not in sys.modules
    sys.modules.setdefault("torch._six", six)
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"{CODE} builds on timm 0.4.5, which cannot be imported ({error}); pip install torchvision timm==0.4.5"
        ) from error
    finally:
        if absent:
            del sys.modules["torch._six"]
    found = getattr(timm, "__version__", "something else of that name")
    if found != "0.4.5":
        raise UserError(f"{CODE} builds on timm 0.4.5, found {found}; pip install timm==0.4.5")
