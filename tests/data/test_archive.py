"""Downloads, from a server in the test: whole or absent, checked by content, clear errors."""

import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath

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


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    content = zipped(tmp_path / "whole.zip", FILES)
    (tmp_path / "half.zip").write_bytes(content[: len(content) // 2])
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(UserError, match="damaged"):
        archive.unpack(tmp_path / "half.zip", target, is_wave)


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPEECHSSL_CACHE", str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv("SPEECHSSL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "speechssl"
