"""Corpus archives: fetched once, unpacked, and checked by the content of the files that are wanted."""

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from speechssl.data.download import fetch
from speechssl.errors import UserError


def fetch_files(url: str, folder: Path, wanted: Callable[[PurePosixPath], bool], sha256: str) -> Path:
    """Return `folder` with the wanted files of the zip archive at `url`, fetching them where it is not there.

    Args:
        url: of the archive.
        folder: where the files go; it appears whole or not at all.
        wanted: tells of a name in the archive whether it is wanted.
        sha256: what `content_digest` of the files must be.

    Raises:
        UserError: no network, a damaged archive, or other files than `sha256` names.
    """
    if folder.is_dir():
        return folder
    archive = folder.with_name(f"{folder.name}.zip")
    fetch(url, archive)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        unpack(archive, temporary, wanted)
        found, number = content_digest(temporary), len(list(temporary.iterdir()))
        if found != sha256:
            raise UserError(
                f"{url} is not what it was: {number} files of digest {found[:8]}, expected {sha256[:8]}; "
                f"look at {archive}, then give source= an unpacked copy that you trust"
            )
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    archive.unlink()
    return folder


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> None:
    """Unpack the wanted files of a zip archive into an existing folder, without their paths.

    Only the last part of each name is used, so no archive can write outside `folder`.

    Raises:
        UserError: not a zip archive, a damaged one, or one with two wanted files of one name.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                name = PurePosixPath(member.filename)
                if not member.is_dir() and wanted(name):
                    with packed.open(member) as source, open(folder / name.name, "xb") as target:
                        shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, EOFError, FileExistsError) as error:
        raise UserError(f"{archive} is damaged or not what it should be ({error}); delete it and try again") from error


def content_digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of all files: an archive's own bytes depend on its packer."""
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        state.update(path.name.encode() + b"\0" + path.read_bytes())
    return state.hexdigest()
