"""Reading and resampling audio, and the frontends that turn waveforms into spectrograms.

Names load on first use: reading a file needs no torch, and computing features needs no soundfile.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechssl.audio.frontend import Frontend
    from speechssl.audio.kaldi import KaldiFbank
    from speechssl.audio.log_mel import LogMel
    from speechssl.audio.read import AudioInfo, audio_info, read_audio
    from speechssl.audio.resampling import resample

_HOMES = {
    "AudioInfo": "read",
    "Frontend": "frontend",
    "KaldiFbank": "kaldi",
    "LogMel": "log_mel",
    "audio_info": "read",
    "read_audio": "read",
    "resample": "resampling",
}
__all__ = ["AudioInfo", "Frontend", "KaldiFbank", "LogMel", "audio_info", "read_audio", "resample"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
