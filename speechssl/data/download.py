"""Fetching a file from the network into the user's cache folder."""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from speechssl.errors import UserError
from speechssl.files import atomic_path

TIMEOUT_SECONDS = 30.0  # without a byte from the server
CHUNK_BYTES = 2**18

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where downloads are kept: $SPEECHSSL_CACHE, else `speechssl` in the user's cache folder."""
    if given := os.environ.get("SPEECHSSL_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechssl"


def local_copy(corpus: str) -> Path | None:
    """Return $SPEECHSSL_DATA/CORPUS, the copy that is kept on this machine, or None where there is none."""
    folder = Path(os.environ.get("SPEECHSSL_DATA", "")) / corpus
    return folder if "SPEECHSSL_DATA" in os.environ and folder.is_dir() else None


def fetch(url: str, path: Path, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    """Download `url` to the file `path`, which is whole or absent.

    Raises:
        UserError: no network, no such file, or a connection that broke before the announced length.
    """
    logger.info("downloading %s", url)
    try:
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            _copy(url, file.write, timeout_seconds)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"could not download {url} ({reason}); without a network give source= a copy on disk"
        ) from error


def _copy(url: str, write: Callable[[bytes], object], timeout_seconds: float) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        urllib.request.urlopen(url, timeout=timeout_seconds) as response,
        Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress,
    ):
        announced = response.headers.get("Content-Length")  # absent where the server packs the archive on demand
        total = int(announced) if announced else None
        bar, received = progress.add_task(url.rsplit("/", 1)[-1], total=total), 0
        while chunk := response.read(CHUNK_BYTES):
            write(chunk)
            received += len(chunk)
            progress.update(bar, completed=received)
    if total is not None and received != total:
        raise ConnectionError(f"the connection ended after {received} of {total} bytes")
