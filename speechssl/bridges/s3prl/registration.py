"""Puts our encoders into s3prl's hub, and makes s3prl importable beside today's torchaudio."""

import contextlib
import importlib.util
import io
from collections.abc import Iterator

from speechssl.bridges.s3prl.hubconf import entries
from speechssl.errors import UserError
from speechssl.stand_ins import quiet_log, torchaudio_names

INSTALL = "install what fits together with: pip install 'speechssl[s3prl]'"


def register() -> list[str]:
    """Put our entries into `s3prl.hub`, and return their names.

    `s3prl.hub` and `s3prl.nn` are imported on the way; afterwards they can be imported as usual.

    Raises:
        UserError: s3prl or torchaudio is missing, or does not work.
    """
    require()
    try:
        with torchaudio_names(), silent():
            from s3prl.nn import upstream as theirs  # with today's torchaudio this succeeds in here only
    except (ImportError, OSError) as error:  # a torchaudio that does not fit PyTorch is an OSError
        raise UserError(f"s3prl cannot be imported ({error}); {INSTALL}") from error
    ours = entries()
    for name, entry in ours.items():
        setattr(theirs.hub, name, entry)
    return sorted(ours)


def require() -> None:
    """Raise UserError where s3prl or torchaudio is missing."""
    for package in ("s3prl", "torchaudio"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"a bridge to s3prl needs the package {package}, which is missing; {INSTALL}")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep back what s3prl prints and logs while it is imported: packages that other upstreams would need."""
    with contextlib.redirect_stdout(io.StringIO()), quiet_log("s3prl"):
        yield
