"""torchaudio's bundles by name. Weights are downloaded by torchaudio on first use, and read without running code."""

import importlib.util
import pickle
from importlib import metadata
from typing import Any

import torch

from speechssl.errors import UserError, nearest
from speechssl.upstream.torchaudio.model import Torchaudio

INSTALL = "install it with: pip install 'speechssl[torchaudio]'"


def check(name: str) -> None:
    """Raise UserError where torchaudio, or the bundle, is not there; downloads nothing."""
    _bundle(name)


def load(name: str, **settings: Any) -> Torchaudio:
    """Return the model of a bundle, with its weights.

    Raises:
        UserError: torchaudio is missing, unknown bundle, any setting (bundles have none), no network, damaged weights.
    """
    bundle = _bundle(name)
    if settings:
        raise UserError(f"torchaudio:{name} has no settings, found {', '.join(settings)}; leave them out")
    try:
        model = bundle.get_model(dl_kwargs={"weights_only": True})
    except OSError as error:
        raise UserError(
            f"torchaudio:{name} cannot be downloaded ({error}); it fetches its weights on first use into "
            f"{torch.hub.get_dir()}/checkpoints, where a copy from another machine does as well"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        line = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"the weights of torchaudio:{name} cannot be read ({type(error).__name__}: {line}); delete them from "
            f"{torch.hub.get_dir()}/checkpoints and load it again"
        ) from error
    return Torchaudio(model, int(bundle.sample_rate), {"bundle": name, "torchaudio": metadata.version("torchaudio")})


def names() -> list[str]:
    """Return the bundles that are encoders of waveforms."""
    return sorted(_bundles())


def _bundles() -> dict[str, Any]:
    if importlib.util.find_spec("torchaudio") is None:
        raise UserError(f"torchaudio: upstreams need the package torchaudio, which is missing; {INSTALL}")
    try:
        from torchaudio import pipelines
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(f"torchaudio does not work here ({error}); see speechssl doctor") from error
    return {name: value for name, value in vars(pipelines).items() if isinstance(value, pipelines.Wav2Vec2Bundle)}


def _bundle(name: str) -> Any:
    found = _bundles()
    if name not in found:
        hint = nearest(name.upper(), found) or f"; known: {', '.join(sorted(found))}"
        raise UserError(f"torchaudio has no encoder bundle {name!r}{hint}")
    return found[name]
