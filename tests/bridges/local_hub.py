"""A Hugging Face Hub of one's own on this machine: enough of its protocol to make, fill and fetch a repository."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalHub(ThreadingHTTPServer):
    """Repositories in memory.

    Attributes:
        files: {OWNER/NAME: {path: content}}.
        requests: "METHOD path" of every request, in order.
        created: what was said of each new repository.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        self.created: list[dict] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def answer(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code: str) -> None:
        self.answer({"error": code}, 404, X_Error_Code=code, X_Error_Message=code)

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+?)(?:/(?:revision|tree)/([^/?]+))?(\?.*)?", self.path):
            self.information(match[1], match[2] or "main", "/tree/" in self.path)
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)(\?.*)?", self.path):
            self.file(match[1], match[3])
        else:
            self.missing("EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def information(self, repository: str, revision: str, tree: bool) -> None:
        files = self.server.files.get(repository)
        if files is None:
            self.missing("RepoNotFound")
        elif revision not in ("main", commit(files)):
            self.missing("RevisionNotFound")
        elif tree:
            self.answer([{"type": "file", "path": p, "size": len(c), "oid": oid(c)} for p, c in sorted(files.items())])
        else:
            siblings = [{"rfilename": path} for path in sorted(files)]
            about = {"id": repository, "modelId": repository, "private": False, "tags": [], "downloads": 0}
            self.answer({**about, "sha": commit(files), "siblings": siblings})

    def file(self, repository: str, path: str) -> None:
        content = self.server.files.get(repository, {}).get(path)
        if content is None:
            self.missing("EntryNotFound")
        else:
            self.answer(content, ETag=f'"{oid(content)}"', X_Repo_Commit=commit(self.server.files[repository]))

    def do_POST(self) -> None:
        self.server.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            said = json.loads(body)
            repository = "/".join(filter(None, (said.get("organization"), said["name"])))
            self.server.files.setdefault(repository, {})
            self.server.created.append(said)
            self.answer({"url": f"{self.server.address}/{repository}", "id": repository, "name": repository})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^?]+(\?.*)?", self.path):
            files = self.server.files[match[1]]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            where = f"{self.server.address}/{match[1]}/commit/{commit(files)}"
            self.answer({"success": True, "commitOid": commit(files), "commitUrl": where, "hookOutput": ""})
        else:
            self.answer({})


def oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def commit(files: dict[str, bytes]) -> str:
    """Return 40 hex digits that follow from the content."""
    return oid(repr(sorted(files.items())).encode())


@contextmanager
def running() -> Iterator[LocalHub]:
    """Serve until the block ends."""
    server = LocalHub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
