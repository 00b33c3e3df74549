"""A model hub on this machine: its HTTP interface, and the folders its client keeps.

As much of both as loading a model touches.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(
    cache: Path, name: str, published: Path, commit: str = COMMIT, branch: str = "main"
) -> Path:
    """Lay out a model as the hub's client does: blobs, and snapshots that link to them.

    Returns:
        The snapshot's folder.
    """
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for folder in (home / "blobs", home / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    for path in published.iterdir():
        content = path.read_bytes()
        blob = hashlib.sha256(content).hexdigest()
        (home / "blobs" / blob).write_bytes(content)
        (snapshot / path.name).symlink_to(Path("..", "..", "blobs", blob))
    (home / "refs" / branch).write_text(commit)
    return snapshot


@dataclass
class Hub:
    """What the hub holds and how it answers.

    Attributes:
        url: Where it listens.
        models: Folder of each public model, by hub id.
        refusals: Status and error code for ids it does not give; such ids need no folder.
        token: Without it every model is refused, if set.
        fetched: Files that were sent, by name.
        tokens: `Authorization` of every request.
    """

    url: str = ""
    models: dict[str, Path] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    token: str | None = None
    fetched: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a hub on a free port."""
    hub = Hub()

    class Handler(_Handler):
        held = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    held: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _answer(self) -> None:
        words = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = words[:2] == ["api", "models"]
        owner, name, kind, revision, *rest = words[2:] if api else words
        model = f"{owner}/{name}"
        self.held.tokens.append(self.headers.get("Authorization"))
        if model in self.held.refusals:
            status, code = self.held.refusals[model]
            return self._send(status, b"", {"X-Error-Code": code})
        if self.held.token and self.held.tokens[-1] != f"Bearer {self.held.token}":
            return self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        if model not in self.held.models:
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = {path.name: path for path in sorted(self.held.models[model].iterdir())}
        if api:
            return self._send(200, json.dumps(_listing(kind, model, files)).encode(), {})
        content = files[rest[0]].read_bytes()
        if self.command == "GET":
            self.held.fetched.append(rest[0])
        return self._send(200, content, {"ETag": f'"{_blob_id(content)}"', "X-Repo-Commit": COMMIT})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _listing(kind: str, model: str, files: dict[str, Path]) -> Any:
    if kind == "tree":
        return [
            {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": _blob_id(path.read_bytes()),
            }
            for name, path in files.items()
        ]
    siblings = [{"rfilename": name} for name in files]
    return {"id": model, "modelId": model, "sha": COMMIT, "siblings": siblings, "tags": []}


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
