"""The configuration of published files, in our constructor arguments and back.

Only what changes the model or its features is read. A setting that would need a frontend or model other than
ours is refused by name instead of being ignored: the weights would load and mean something else.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from speechssl.errors import UserError
from speechssl.upstream.tera.model import Tera

LOG_MEL = {"target_level": -25, "win_ms": 25, "hop_ms": 10, "n_freq": 201}
LOG_MEL_INPUT = {"feat_type": "mel", "log": True, "delta": 0}
KALDI = {
    "frame_length": 25,
    "frame_shift": 10,
    "use_log_fbank": True,
    "sample_frequency": 16000,
    "use_power": True,
    "use_energy": False,
    "dither": 0,
    "window_type": "povey",
    "preemphasis_coefficient": 0.97,
    "remove_dc_offset": True,
    "round_to_power_of_two": True,
    "snip_edges": True,
    "subtract_mean": False,
    "low_freq": 20,
    "high_freq": 0,
}
DELTA_WINDOW = 5
TASK = {
    "mask_proportion": float,
    "mask_consecutive_min": int,
    "mask_consecutive_max": int,
    "mask_allow_overlap": bool,
    "mask_bucket_ratio": float,
    "mask_frequency": float,  # a share, or (files of 2020) a number of channels
    "noise_proportion": float,
}


def require(section: dict[str, Any], expected: dict[str, Any], owner: str) -> None:
    """Raise UserError for a setting that is present with another value than the only one supported."""
    for name, value in expected.items():
        found = section.get(name, value)
        if found != value:
            raise UserError(f"{owner}.{name} is {found!r}; only {value!r} is supported")


def frontend_arguments(settings: dict[str, Any], weights: dict[str, Tensor], path: str | Path) -> dict[str, Any]:
    """Return frontend, num_mels, deltas and normalization for the features a checkpoint was trained on."""
    audio = settings.get("audio")
    if not audio:
        return {"frontend": "features", "num_mels": _given_width(settings, weights, path)}
    if "kaldi" in audio:
        return _kaldi_arguments(audio, path)
    require(audio, LOG_MEL, f"{path}: audio")
    source = audio.get("input", {})
    require(source, LOG_MEL_INPUT, f"{path}: audio.input")
    normalization = "utterance" if source.get("cmvn", True) else "none"
    return {"frontend": "log_mel", "num_mels": int(audio.get("n_mels", 80)), "normalization": normalization}


def task_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what the file says about the pretraining objective (in 2020 kept beside the model's sizes)."""
    section = settings["transformer"] | (settings.get("task") or {})
    found = {name: kind(section[name]) for name, kind in TASK.items() if name in section}
    return found | ({"loss": str(section["loss"]).lower()} if "loss" in section else {})


def audio_section(upstream: Tera) -> dict[str, Any]:
    """Return {"audio": ...} of a model, or nothing when it reads pre-extracted features."""
    frontend = upstream.frontend
    if frontend is None:
        return {}
    cmvn = frontend.normalization == "utterance"
    if upstream.frontend_name == "kaldi_fbank":
        fbank = {"num_mel_bins": frontend.num_mels} | {k: KALDI[k] for k in list(KALDI)[:3]}
        return {
            "audio": {
                "kaldi": {"feat_type": "fbank", "fbank": fbank},
                "delta": {"order": frontend.deltas, "win_length": DELTA_WINDOW},
                "cmvn": {"use_cmvn": cmvn},
            }
        }
    view = LOG_MEL_INPUT | {"cmvn": cmvn}
    sizes = LOG_MEL | {"n_mels": frontend.num_mels, "n_mfcc": 13}
    return {"audio": sizes | {"input": view | {"channel": 0}, "target": view | {"channel": 1}}}


def _given_width(settings: dict[str, Any], weights: dict[str, Tensor], path: str | Path) -> int:
    """Return the width of pre-extracted features: as configured, or as the first matrix has it."""
    width = int(settings["transformer"].get("input_dim", -1))
    if width > 0:
        return width
    projection = weights.get("input_representations.spec_transform.weight")
    if projection is None:
        raise UserError(f"{path} lacks the tensor Transformer['input_representations.spec_transform.weight']")
    return projection.shape[-1]


def _kaldi_arguments(audio: dict[str, Any], path: str | Path) -> dict[str, Any]:
    kaldi = audio["kaldi"]
    require(kaldi, {"feat_type": "fbank"}, f"{path}: audio.kaldi")
    options = dict(kaldi.get("fbank", {}))
    num_mels = int(options.pop("num_mel_bins", 80))
    for name in options.keys() - KALDI.keys():
        raise UserError(f"{path}: audio.kaldi.fbank.{name} is {options[name]!r}; this setting is not supported")
    require(options, KALDI, f"{path}: audio.kaldi.fbank")
    delta = audio.get("delta") or {"order": 0}
    require(delta, {"win_length": DELTA_WINDOW}, f"{path}: audio.delta")
    cmvn = (audio.get("cmvn") or {}).get("use_cmvn", False)
    normalization = "utterance" if cmvn else "none"
    return {
        "frontend": "kaldi_fbank",
        "num_mels": num_mels,
        "deltas": int(delta.get("order", 0)),
        "normalization": normalization,
    }
