"""Downloads, from a server in the test: whole or absent, checked by content, clear errors."""

import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from speechssl.data import archive, download
from speechssl.errors import UserError

FILES = {"repository-1/recordings/a.wav": b"one", "repository-1/recordings/b.wav": b"two"}
OTHERS = {"repository-1/README.md": b"text", "repository-1/recordings/.hidden": b""}


class Server(ThreadingHTTPServer):
    """Serves its `files`; announces more bytes than it sends for paths with "torn"."""

    files: dict[str, bytes]
    asked: int = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        if "chunked" not in self.path:
            self.send_header("Content-Length", str(len(content) + (10 if "torn" in self.path else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        running.files = {}
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def zipped(path: Path, files: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return path.read_bytes()


def is_wave(name: PurePosixPath) -> bool:
    return name.suffix == ".wav"


@pytest.fixture
def expected(tmp_path: Path) -> str:
    folder = tmp_path / "expected"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / PurePosixPath(name).name).write_bytes(content)
    return archive.content_digest(folder)


@pytest.mark.parametrize("path", ["/data.zip", "/chunked.zip"])
def test_fetches_once_and_keeps_the_wanted_files(server: Server, tmp_path: Path, expected: str, path: str) -> None:
    server.files[path] = zipped(tmp_path / "made.zip", FILES | OTHERS)
    target = tmp_path / "cache" / "data"
    for _ in range(2):
        assert archive.fetch_files(address(server, path), target, is_wave, expected) == target
    assert server.asked == 1
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {"a.wav": b"one", "b.wav": b"two"}
    assert [p.name for p in target.parent.iterdir()] == ["data"]


def test_other_content_is_refused_and_nothing_appears(server: Server, tmp_path: Path, expected: str) -> None:
    server.files["/data.zip"] = zipped(tmp_path / "made.zip", {"recordings/a.wav": b"changed"})
    with pytest.raises(UserError, match=r"not what it was: 1 files .* give source="):
        archive.fetch_files(address(server, "/data.zip"), tmp_path / "cache" / "data", is_wave, expected)
    assert not (tmp_path / "cache" / "data").exists()
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["data.zip"]


def test_a_torn_connection_leaves_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/torn.zip"] = b"half of it"
    with pytest.raises(UserError, match=r"could not download .*torn\.zip .*source="):
        download.fetch(address(server, "/torn.zip"), tmp_path / "cache" / "torn.zip")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_file_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"could not download .*Not Found.*source=") as caught:
        download.fetch(address(server, "/nothing.zip"), tmp_path / "x.zip")
    assert "\n" not in str(caught.value)


def test_no_server_is_one_clear_line(server: Server, tmp_path: Path) -> None:
    free = address(server, "/data.zip").replace(str(server.server_port), "9")  # nobody listens
    with pytest.raises(UserError, match=r"could not download .*give source= a copy on disk"):
        download.fetch(free, tmp_path / "x.zip", timeout_seconds=2)


def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    zipped(tmp_path / "evil.zip", {"../../recordings/../evil.wav": b"x", "/recordings/abs.wav": b"y"})
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    archive.unpack(tmp_path / "evil.zip", target, is_wave)
    assert sorted(p.name for p in target.iterdir()) == ["abs.wav", "evil.wav"]
    assert not list(tmp_path.glob("*.wav"))


def test_folders_above_the_files_are_kept_where_asked_for(server: Server, tmp_path: Path) -> None:
    files = {"repository-1/001 - Dog/a.wav": b"one", "repository-1/002 - Cat/a.wav": b"two"}
    for name, content in files.items():
        path = tmp_path / "expected" / PurePosixPath(name).relative_to("repository-1")
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    digest = archive.content_digest(tmp_path / "expected")
    server.files["/data.zip"] = zipped(tmp_path / "made.zip", files | OTHERS)
    wanted = {PurePosixPath(name) for name in files}.__contains__
    target = archive.fetch_files(address(server, "/data.zip"), tmp_path / "cache" / "data", wanted, digest, parents=1)
    assert (target / "001 - Dog" / "a.wav").read_bytes() == b"one"
    (tmp_path / "expected" / "002 - Cat").rename(tmp_path / "expected" / "003 - Cat")
    assert archive.content_digest(tmp_path / "expected") != digest  # folder names are part of the content


@pytest.mark.parametrize("name", ["x/../evil.wav", "/evil.wav"])
def test_kept_folders_cannot_lead_outside_either(tmp_path: Path, name: str) -> None:
    zipped(tmp_path / "evil.zip", {name: b"x"})
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(UserError, match="no plain path"):
        archive.unpack(tmp_path / "evil.zip", target, is_wave, parents=1)
    assert not list(tmp_path.rglob("evil.wav"))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    content = zipped(tmp_path / "whole.zip", FILES)
    (tmp_path / "half.zip").write_bytes(content[: len(content) // 2])
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="damaged"):
        archive.unpack(tmp_path / "half.zip", target, is_wave)


def test_a_tar_with_paths_outside_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(b"x")
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "evil", "../evil.wav")
    server.files["/evil.tar.gz"] = (tmp_path / "evil.tar.gz").read_bytes()
    with pytest.raises(UserError, match="could not be unpacked"):
        archive.fetch_tar(address(server, "/evil.tar.gz"), tmp_path / "cache" / "data")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["evil.tar.gz"]


def test_a_damaged_tar_is_refused(server: Server, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "a.wav").write_bytes(content)
    with tarfile.open(tmp_path / "whole.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "a.wav", "a.wav")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    server.files |= {"/half.tar.gz": whole[: len(whole) // 2], "/whole.tar.gz": whole}
    with pytest.raises(UserError, match=r"half\.tar\.gz could not be unpacked .*delete it"):
        archive.fetch_tar(address(server, "/half.tar.gz"), tmp_path / "cache" / "half")
    folder = archive.fetch_tar(address(server, "/whole.tar.gz"), tmp_path / "cache" / "whole")
    assert (folder / "a.wav").read_bytes() == content
    assert not (tmp_path / "cache" / "half").exists()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv("SPEECHSSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "speechssl"
