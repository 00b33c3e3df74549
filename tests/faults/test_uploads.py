"""A process that is killed in the middle of an upload leaves the whole object or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import object_store
import pytest
from object_store import Proxy, Request

pytestmark = pytest.mark.faults

_WRITE = (
    "import sys\n"
    "from sentiment.output import folder\n"
    "folder._ONE_REQUEST_BYTES = int(sys.argv[2])\n"
    "folder.Output.open(sys.argv[1]).write('a', bytes(300_000))\n"
)


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with object_store.running_store() as store, object_store.running_proxy(store) as proxy:
        object_store.client(store).create_dir("bucket")
        yield proxy


def _write(proxy: Proxy, folder: str, one_request_bytes: int) -> subprocess.Popen[bytes]:
    uri = f"s3://bucket/{folder}?endpoint_override={proxy.endpoint}&scheme=http&region=us-east-1"
    return subprocess.Popen(
        [sys.executable, "-c", _WRITE, uri, str(one_request_bytes)],
        env={**os.environ, **object_store.KEYS},
    )


@pytest.mark.parametrize(
    ("one_request_bytes", "request_number"),
    [(2**20, 1), (0, 1), (0, 2), (0, 3)],
    ids=["one request", "start", "part", "end"],
)
@pytest.mark.parametrize("done", [False, True], ids=["unseen by the store", "done by the store"])
def test_a_killed_upload_leaves_no_torn_object(
    proxy: Proxy, one_request_bytes: int, request_number: int, done: bool
) -> None:
    folder = f"{one_request_bytes}-{request_number}-{done}"
    reached = threading.Event()
    uploads = iter(range(1, 100))

    def hang(request: Request) -> object_store.Fault | None:
        if request.method not in ("PUT", "POST") or next(uploads) < request_number:
            return None
        reached.set()
        return "numb" if done else "silent"

    proxy.calm()
    proxy.fault = hang
    process = _write(proxy, folder, one_request_bytes)
    assert reached.wait(60)
    if done:
        assert proxy.passed_on.wait(60)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    proxy.calm()
    store = object_store.client(proxy.endpoint)
    published = done and request_number == (1 if one_request_bytes else 3)
    found = store.get_file_info(f"bucket/{folder}/a")
    assert found.size == (300_000 if published else None)
    assert _write(proxy, folder, one_request_bytes).wait(60) == 0
    assert store.get_file_info(f"bucket/{folder}/a").size == 300_000
