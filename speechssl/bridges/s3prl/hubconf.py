"""The entries that our encoders have in s3prl's hub.

`speechssl_local` (also `speechssl`) asks for an encoder: a run directory or any other name `load_upstream` takes. Those
that need no file, baselines and encoders whose weights the package brings, are there as `speechssl_FAMILY_SIZE`.
"""

from collections.abc import Callable
from typing import Any

from speechssl import hub, registry
from speechssl.bridges.s3prl.expert import UpstreamExpert
from speechssl.errors import UserError

Entry = Callable[..., UpstreamExpert]


def speechssl_local(ckpt: str | None = None, **settings: Any) -> UpstreamExpert:
    """Return the encoder `ckpt`: RUN_DIR, "tera:FILE", "fbank", ..."""
    return UpstreamExpert(ckpt, **settings)


def speechssl(ckpt: str | None = None, **settings: Any) -> UpstreamExpert:
    """Return the encoder `ckpt`; the same as `speechssl_local`."""
    return UpstreamExpert(ckpt, **settings)


def entries() -> dict[str, Entry]:
    """Return every entry by its name."""
    ready = [name for name in hub.list_upstreams() if _needs_no_file(name)]
    return {
        "speechssl": speechssl,
        "speechssl_local": speechssl_local,
        **{f"speechssl_{name.replace('/', '_')}": _entry(name) for name in ready},
    }


def _needs_no_file(name: str) -> bool:
    family, _, size = name.partition("/")
    return not hub.family_needs_weights(name) or size in registry.bundled(family)


def _entry(name: str) -> Entry:
    def entry(ckpt: str | None = None, **settings: Any) -> UpstreamExpert:
        if ckpt is not None:
            raise UserError(f"this entry is {name} itself; for {ckpt} say speechssl_local")
        return UpstreamExpert(name, **settings)

    entry.__doc__ = f"Return the encoder {name}."
    return entry
