"""Corpus archives: fetched once, unpacked, and checked by the content of the files that are wanted."""

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from speechssl.data.download import fetch
from speechssl.errors import UserError
from speechssl.files import sha256 as file_digest


def fetch_files(url: str, folder: Path, wanted: Callable[[PurePosixPath], bool], sha256: str, parents: int = 0) -> Path:
    """Return `folder` with the wanted files of the zip archive at `url`, fetching them where it is not there.

    Args:
        url: of the archive.
        folder: where the files go; it appears whole or not at all.
        wanted: tells of a name in the archive whether it is wanted.
        sha256: what `content_digest` of the files must be; None where it is not known (then the caller counts).
        parents: how many folders directly above each file are kept.

    Raises:
        UserError: no network, a damaged archive, or other files than `sha256` names.
    """
    if folder.is_dir():
        return folder
    archive = folder.with_name(f"{folder.name}.zip")
    fetch(url, archive)
    with _whole_folder(folder) as temporary:
        unpack(archive, temporary, wanted, parents)
        found, number = content_digest(temporary), len(_files(temporary))
        if sha256 is not None and found != sha256:
            raise UserError(
                f"{url} is not what it was: {number} files of digest {found[:8]}, expected {sha256[:8]}; "
                f"look at {archive}, then give source= an unpacked copy that you trust"
            )
    archive.unlink()
    return folder


def fetch_tar(url: str, folder: Path, sha256: str | None = None) -> Path:
    """Return `folder` with all files of the tar archive at `url`, fetching them where it is not there.

    Args:
        url: of the archive, compressed or not.
        folder: where the files go; it appears whole or not at all.
        sha256: of the archive's bytes; None where none was published (then the caller counts the files).

    Raises:
        UserError: no network, a damaged archive, another one than `sha256` names, or one with unsafe paths.
    """
    if folder.is_dir():
        return folder
    archive = folder.with_name(url.rsplit("/", 1)[-1])
    if not archive.is_file():  # one that was fetched before is looked at again
        fetch(url, archive)
    if sha256 is not None and (found := file_digest(archive)) != sha256:
        raise UserError(
            f"{archive} has digest {found[:8]}, expected {sha256[:8]}; delete it and try again, or give source= an "
            "unpacked copy that you trust"
        )
    with _whole_folder(folder) as temporary:
        try:
            with tarfile.open(archive) as packed:
                packed.extractall(temporary, filter="data")  # refuses paths that lead outside
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise UserError(f"{archive} could not be unpacked ({error}); delete it and try again") from error
    archive.unlink()
    return folder


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` if the block ends without an error, else is removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield temporary
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def unpack(archive: Path, folder: Path, wanted: Callable[[PurePosixPath], bool], parents: int = 0) -> None:
    """Unpack the wanted files of a zip archive into an existing folder, with `parents` folders of their paths.

    Only the last parts of each name are used and ".." is refused, so no archive can write outside `folder`.

    Raises:
        UserError: not a zip archive, a damaged one, or one with two wanted files of one name.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            for member in packed.infolist():
                name = PurePosixPath(member.filename)
                if not member.is_dir() and wanted(name):
                    with packed.open(member) as source, open(_place(folder, name, parents), "xb") as target:
                        shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, EOFError, FileExistsError) as error:
        raise UserError(f"{archive} is damaged or not what it should be ({error}); delete it and try again") from error


def _place(folder: Path, name: PurePosixPath, parents: int) -> Path:
    """Return where in `folder` a file of an archive goes; the folder for it exists afterwards."""
    kept = name.parts[-1 - parents :]
    if ".." in kept or "/" in kept:
        raise UserError(f"the archive holds {name}, which is no plain path; expected files below named folders")
    target = folder.joinpath(*kept)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def content_digest(folder: Path) -> str:
    """Return the SHA-256 over names and bytes of all files: an archive's own bytes depend on its packer."""
    state = hashlib.sha256()
    for path in _files(folder):
        state.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return state.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
