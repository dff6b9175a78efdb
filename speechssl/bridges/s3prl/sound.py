"""Audio files for s3prl's tasks, where torchaudio no longer reads them by itself and has given up its sox effects.

From 2.9 on torchaudio reads files through torchcodec only, and `torchaudio.sox_effects` is gone. The tasks of s3prl
need `torchaudio.load` and, of sox, mostly four effects: mono by the mean of the channels, another rate (sox's own
resampler, soxr, at its quality HQ), a gain, and the normalisation of the peak. Others are refused, by name.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechssl.audio.resampling import resample
from speechssl.errors import UserError

Sound = tuple[Tensor, int]  # (channels, S) float32, and the rate in Hz


def load(
    uri: Any, frame_offset: int = 0, num_frames: int = -1, normalize: bool = True, channels_first: bool = True, **_: Any
) -> Sound:
    """Return an audio file as `torchaudio.load` does: (channels, S) in [-1, 1], and the rate in Hz."""
    if not normalize:
        raise UserError("integer samples (normalize=False) are not read here; s3prl's tasks do not ask for them")
    source = str(uri) if isinstance(uri, str | Path) else uri
    try:
        samples, rate = soundfile.read(
            source, start=frame_offset, frames=num_frames, dtype="float32", always_2d=True, fill_value=None
        )
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise UserError(f"{uri} cannot be read as audio ({error}); expected wav, flac, ogg or mp3") from error
    sound = torch.from_numpy(samples)
    return (sound.T.contiguous() if channels_first else sound), rate


def apply_effects_file(path: Any, effects: Sequence[Sequence[str]], **settings: Any) -> Sound:
    """Return an audio file after sox effects such as [["channels", "1"], ["rate", "16000"], ["gain", "-3.0"]]."""
    return apply_effects_tensor(*load(path), effects)


def apply_effects_tensor(
    tensor: Tensor, sample_rate: int, effects: Sequence[Sequence[str]], channels_first: bool = True
) -> Sound:
    """Return a sound after sox effects, one after the other."""
    tensor = tensor if channels_first else tensor.T
    for name, *arguments in effects:
        if name not in EFFECTS or len(arguments) != ARGUMENTS[name]:
            shown = " ".join([name, *arguments])
            raise UserError(
                f"the sox effect {shown!r} has no stand-in here (there are: {', '.join(EFFECTS)}); "
                "this task of s3prl needs a torchaudio before 2.9"
            )
        tensor, sample_rate = EFFECTS[name](tensor, sample_rate, *arguments)
    return (tensor if channels_first else tensor.T), sample_rate


def _channels(tensor: Tensor, rate: int, count: str) -> Sound:
    if int(count) != 1:
        raise UserError(f"the sox effect 'channels {count}' has no stand-in here; expected channels 1")
    return tensor.mean(0, keepdim=True), rate


def _rate(tensor: Tensor, rate: int, wanted: str) -> Sound:
    target = int(float(wanted))
    rows = [resample(row.numpy(), rate, target) for row in tensor]
    return torch.from_numpy(np.stack(rows)), target


def _gain(tensor: Tensor, rate: int, decibels: str) -> Sound:
    return (tensor * 10 ** (float(decibels) / 20)).clamp(-1, 1), rate


def _norm(tensor: Tensor, rate: int) -> Sound:
    peak = tensor.abs().max()
    return (tensor / peak if peak > 0 else tensor), rate


EFFECTS: dict[str, Callable[..., Sound]] = {"channels": _channels, "rate": _rate, "gain": _gain, "norm": _norm}
ARGUMENTS = {"channels": 1, "rate": 1, "gain": 1, "norm": 0}
