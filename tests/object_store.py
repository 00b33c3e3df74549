"""An object store for tests: moto's S3 server, and a proxy in front of it that misbehaves on order.

Run as a program it is the server: it prints its port and lives until its standard input closes, so
that it never outlives the tests, whatever happens to them. With `score` it is the jobs of a test.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pyarrow import fs

# What may happen to a request:
#   error     the store answers 500 and does nothing
#   slow down the store answers 503 SlowDown and does nothing
#   reset     the connection breaks before the store sees the request
#   deaf      the store does what it is asked, then the connection breaks
#   half      the connection breaks in the middle of the answer's body
#   silent    nothing is ever answered, nor done
#   numb      the store does what it is asked, then nothing is ever answered
Fault = Literal["error", "slow down", "reset", "deaf", "half", "silent", "numb"]

# moto looks at no signature, but a client without keys goes looking for some.
KEYS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}

_STATUS = {"error": (500, "InternalError"), "slow down": (503, "SlowDown")}


@dataclass(frozen=True)
class Request:
    """One request as the proxy saw it.

    Attributes:
        path: Bucket and key, decoded, with a leading slash.
        query: As sent; `uploads`, `uploadId=…` and `list-type=2` tell what is asked.
    """

    method: str
    path: str
    query: str


class Proxy:
    """Passes requests on to the store and remembers them.

    Attributes:
        endpoint: `host:port` to talk to.
        seen: Every request since the last `calm`, in order of arrival.
        fault: Asked for each request; a Fault happens to it, None lets it pass.
        passed_on: Set once the store has answered a request whose answer is kept from the client.
    """

    def __init__(self, store: str) -> None:
        self.seen: list[Request] = []
        self.fault: Callable[[Request], Fault | None] = lambda _: None
        self.passed_on = threading.Event()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, store))
        self._server.daemon_threads = True
        self.endpoint = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def calm(self) -> None:
        """Forget what was seen and pass everything on again."""
        self.seen.clear()
        self.passed_on.clear()
        self.fault = lambda _: None

    def close(self) -> None:
        """Stop answering."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str, key: str) -> int:
        """How often a method was asked of paths that end in a key."""
        return sum(one.method == method and one.path.endswith(key) for one in self.seen)


def _handler(proxy: Proxy, store: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Tests read `seen` instead."""

        def handle(self) -> None:
            with suppress(OSError):  # a client that was reset, or gave up, is what tests are about
                super().handle()

        def answer(self) -> None:
            body = self._body()
            url = urlsplit(self.path)
            request = Request(self.command, unquote(url.path), url.query)
            proxy.seen.append(request)
            fault = proxy.fault(request)
            if fault in _STATUS:
                status, code = _STATUS[fault]
                self._send(status, {}, f"<Error><Code>{code}</Code></Error>".encode())
            elif fault == "silent":
                proxy.closing.wait()
                self._reset()
            elif fault == "reset":
                self._reset()
            else:
                self._pass_on(body, fault)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:
                    raise ConnectionResetError("the client is gone")
                return body
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _pass_on(self, body: bytes, fault: Fault | None) -> None:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("transfer-encoding", "expect", "connection")
            }
            headers["Content-Length"] = str(len(body))
            connection = HTTPConnection(store, timeout=60)
            try:
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                answer = response.read()
            except (OSError, HTTPException):
                self._reset()
                return
            finally:
                connection.close()
            if fault in ("deaf", "numb"):
                proxy.passed_on.set()
                if fault == "numb":
                    proxy.closing.wait()
                self._reset()
                return
            self._send(response.status, dict(response.getheaders()), answer, fault == "half")

        def _send(
            self, status: int, headers: dict[str, str], body: bytes, half: bool = False
        ) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            length = len(body)
            if self.command == "HEAD":
                length = int(headers.get("Content-Length", length))
                body = b""
            if status != 204:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)
            if half:
                self._reset()

        def _reset(self) -> None:
            """Break the connection as a crashed peer does: RST, not FIN."""
            self.wfile.flush()
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True

    return Handler


@contextmanager
def running_store() -> Iterator[str]:
    """A fresh, empty S3 server; gives its `host:port`."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, "the S3 server did not start"
        yield f"127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


@contextmanager
def running_proxy(store: str) -> Iterator[Proxy]:
    """A proxy in front of a store."""
    proxy = Proxy(store)
    try:
        yield proxy
    finally:
        proxy.close()


def client(endpoint: str, **options: Any) -> fs.S3FileSystem:
    """A plain client that looks at the store past the code under test."""
    return fs.S3FileSystem(
        access_key="key",
        secret_key="secret",
        region="us-east-1",
        scheme="http",
        endpoint_override=endpoint,
        allow_bucket_creation=True,
        **options,
    )


def _serve() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()


def _score(model: str, jobs: dict[str, tuple[str, str]]) -> None:
    """Run jobs of (source, output), twice those in a store, on one Ray; print their ledgers."""
    from sentiment.cluster import connect
    from sentiment.scoring.job import score
    from sentiment.settings.jobs import ScoreConfig

    ledgers = {}
    with connect(None):
        for name, (source, output) in jobs.items():
            config = ScoreConfig(
                sources=[source],
                output=output,
                model=model,
                precision="fp32",
                max_rejected=0.05,
                quiet=True,
            )
            for again in ("", " again") if output.startswith("s3:") else ("",):
                ledger = score(config).ledger
                counts = [ledger.expected, ledger.labelled, ledger.rejected, ledger.reused]
                ledgers[name + again] = counts
    print(json.dumps(ledgers))


if __name__ == "__main__":
    if sys.argv[1:2] == ["score"]:
        _score(sys.argv[2], json.loads(sys.argv[3]))
    else:
        _serve()
