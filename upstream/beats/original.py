"""The authors' BEATs, to hold ours against: their code as SpeechBrain carries it, on a published file.

The authors' own repository (https://github.com/microsoft/unilm) is no package, and s3prl 0.4.18 does not have it;
SpeechBrain (https://github.com/speechbrain/speechbrain, `speechbrain/lobes/models/beats.py`) is a rearranged copy. It
takes mean and std of the filter bank as arguments, which a file of ours carries where they are not AudioSet's.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from speechssl.errors import UserError
from speechssl.upstream.beats.spectrogram import AUDIOSET

CODE = "speechbrain/lobes/models/beats.py, a copy of microsoft/unilm/beats"
PACKAGES = ("speechbrain", "torchaudio")
FIRST = 0  # our hidden state that its hidden states begin with


def settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return with which settings our model does what the original does: patch by patch, time slow.

    Raises:
        UserError: the copy leaves the norm after the last layer out of its hidden states, which this model has.
    """
    if config.get("pre_norm"):
        raise UserError(f"{CODE}, does not give the last hidden state of a model with pre_norm")
    return {"frequency_pooling": "none"}


def load(
    path: Path, config: dict[str, Any], load_upstream: Callable[[str], nn.Module]
) -> Callable[[Tensor], list[Tensor]]:
    """Return the original as a function of one waveform (S,) to hidden states (N, D).

    Args:
        path: a published file.
        config: constructor arguments of our model of that file.
        load_upstream: by name; not needed.

    Raises:
        UserError: a package is missing, or the code does not read the file.
    """
    os.environ.setdefault("SB_DISABLE_QUIRKS", "allow_tf32,disable_jit_profiling")  # it changes PyTorch for everybody
    try:
        from speechbrain.lobes.models.beats import BEATs
    except (ImportError, OSError) as error:
        raise UserError(
            f"the authors' code is in no package; the copy in SpeechBrain cannot be imported ({error}); "
            "pip install speechbrain"
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):  # it draws weights before it loads them
            original = BEATs(str(path), freeze=True, output_all_hiddens=True)
    except (AssertionError, AttributeError, KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"{CODE} does not read {path} ({type(error).__name__}: {error})") from error
    statistics = [config.get(name) or value for name, value in zip(("mean", "std"), AUDIOSET, strict=True)]

    @torch.no_grad()
    def encode(waveform: Tensor) -> list[Tensor]:
        return list(original(waveform[None], torch.ones(1), *statistics)[0][:, :, 0])  # of (L + 1, N, B, D)

    return encode
