"""Sources and outputs on an S3 server, spoken to over HTTP, with the faults that stores have."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import object_store
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from object_store import Fault, Proxy, Request
from pyarrow import fs

from sentiment import storage
from sentiment.errors import OutputError, SourceError
from sentiment.output import folder
from sentiment.output.commit import Stamp, commit_rowless
from sentiment.output.committed import read_committed
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.plan import plan_run
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.read import read_unit
from sentiment.source.shards import Shard, ShardIndex
from sentiment.storage import open_filesystem

STAMP = Stamp("model", "config", "0", "sentiment")
TABLE = pa.table({"review_id": ["a", "b", "c"], "text": ["good", "bad", None]})
_numbers = itertools.count()


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with object_store.running_store() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def a_proxy(store: str) -> Iterator[Proxy]:
    with object_store.running_proxy(store) as proxy:
        yield proxy


@pytest.fixture
def proxy(a_proxy: Proxy) -> Iterator[Proxy]:
    a_proxy.calm()
    yield a_proxy
    a_proxy.calm()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def direct(store: str) -> fs.S3FileSystem:
    """The store itself, past the proxy and the code under test."""
    return object_store.client(store)


@pytest.fixture
def bucket(direct: fs.S3FileSystem) -> str:
    name = f"bucket-{next(_numbers)}"
    direct.create_dir(name)
    return name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "S3_ATTEMPTS", 2)
    monkeypatch.setattr(storage, "S3_SILENT_SEC", 1.0)


def uri(proxy: Proxy, path: str) -> str:
    return f"s3://{path}?endpoint_override={proxy.endpoint}&scheme=http&region=us-east-1"


def put(filesystem: fs.FileSystem, path: str, data: bytes) -> None:
    with filesystem.open_output_stream(path, compression=None) as stream:
        stream.write(data)


def get(filesystem: fs.FileSystem, path: str) -> bytes | None:
    try:
        with filesystem.open_input_stream(path, compression=None) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        return None


def keys_of(filesystem: fs.FileSystem, bucket: str) -> list[str]:
    infos = filesystem.get_file_info(fs.FileSelector(bucket, recursive=True))
    return sorted(info.path[len(bucket) + 1 :] for info in infos if info.is_file)


def shards_of_every_format() -> dict[str, bytes]:
    sink = pa.BufferOutputStream()
    pq.write_table(TABLE, sink)
    lines = "".join(json.dumps(row) + "\n" for row in TABLE.to_pylist()).encode()
    delimited = b'review_id,text\na,good\nb,"bad,\nvery bad"\nc,\n'
    return {
        "dt=1/part-0.parquet": sink.getvalue().to_pybytes(),
        "dt=1/part-1.csv": delimited,
        "dt=2/part-0.jsonl": lines,
        "dt=2/ein päckchen.csv.gz": gzip.compress(delimited),
    }


def once_each(kinds: list[Fault]) -> Callable[[Request], Fault | None]:
    """Every different request fails the first time it is asked, each in the next of these ways."""
    met: set[Request] = set()
    kind = itertools.cycle(kinds)

    def fault(request: Request) -> Fault | None:
        if request in met:
            return None
        met.add(request)
        return next(kind)

    return fault


def always(kind: Fault) -> Callable[[Request], Fault | None]:
    return lambda _: kind


# Sources


def test_shards_are_listed_and_read_as_on_a_local_disk(
    tmp_path: Path, proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    for name, data in shards_of_every_format().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
        put(direct, f"{bucket}/lake/{name}", data)
    here = list_shards([str(tmp_path)]).shards
    there = list_shards([uri(proxy, f"{bucket}/lake")]).shards
    assert [(s.folder, s.name, s.size_bytes) for s in there] == [
        (s.folder, s.name, s.size_bytes) for s in here
    ]
    for local, remote in zip(here, there, strict=True):
        assert read(remote).equals(read(local)), remote.name


def read(shard: Shard) -> pa.Table:
    """Source columns of a whole shard."""
    index = index_shard(shard)
    assert index.columns is not None
    assert index.damage is None
    [shard_plan] = plan_run([index], {}, config_digest="", unit_rows=100, on_change="refuse").shards
    [unit] = shard_plan.units
    return read_unit(unit, index.columns).select(index.columns.names)


def test_globs_and_single_objects_are_sources(
    proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    for name, data in shards_of_every_format().items():
        put(direct, f"{bucket}/lake/{name}", data)
    globbed = list_shards([uri(proxy, f"{bucket}/lake/dt=*/*.csv")]).shards
    alone = list_shards([uri(proxy, f"{bucket}/lake/dt=1/part-1.csv")]).shards
    assert globbed == alone
    assert [(shard.folder, shard.name) for shard in alone] == [("dt=1", "part-1.csv")]


def test_folder_markers_are_no_shards(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    # What consoles, Hadoop and pyarrow leave behind to make a prefix look like a folder.
    for path in ("lake", "lake/dt=1", "lake/dt=9", "lake/x.parquet"):
        direct.create_dir(f"{bucket}/{path}")
    put(direct, f"{bucket}/lake/dt=1/part-1.csv", b"text\ngood\n")
    put(direct, f"{bucket}/lake/dt=9_$folder$", b"")
    listing = list_shards([uri(proxy, f"{bucket}/lake")])
    assert [(shard.folder, shard.name) for shard in listing.shards] == [("dt=1", "part-1.csv")]
    assert [name.split("?")[0] for name in listing.skipped] == [f"s3://{bucket}/lake/dt=9_$folder$"]


def test_the_environment_names_the_endpoint(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.endpoint}")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    put(direct, f"{bucket}/lake/a.csv", b"text\ngood\n")
    [shard] = list_shards([f"s3://{bucket}/lake"]).shards
    assert shard.uri == f"s3://{bucket}/lake/a.csv"
    Output.open(f"s3://{bucket}/out").write("a", b"one")
    assert get(direct, f"{bucket}/out/a") == b"one"


def test_keys_in_a_uri_are_refused_and_not_repeated() -> None:
    # They would be written beside every row.
    for opening in (open_filesystem, Output.open):
        with pytest.raises((SourceError, OutputError), match="AWS_SECRET_ACCESS_KEY") as caught:
            opening("s3://name:hunter2@bucket/lake")
        assert "hunter2" not in str(caught.value)


def test_one_client_serves_all_shards_of_a_store(proxy: Proxy) -> None:
    first, path = open_filesystem(uri(proxy, "bucket/a"))
    second, other = open_filesystem(uri(proxy, "bucket/b"))
    assert first is second
    assert (path, other) == ("bucket/a", "bucket/b")


# Output


def test_write_list_delete(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    output = Output.open(uri(proxy, f"{bucket}/out"))
    assert output.list_files("dt=1") == []
    output.write("dt=1/a", b"one")
    output.write("dt=1/a", memoryview(b"two"))
    output.write("top", b"")
    assert get(direct, f"{bucket}/out/dt=1/a") == b"two"
    assert (output.list_files("dt=1"), output.list_files("")) == (["a"], ["top"])
    assert output.list_tree("") == ["dt=1/a", "top"]
    assert output.exists("dt=1/a")
    output.delete("dt=1/a")
    output.delete("dt=1/a")
    assert not output.exists("dt=1/a")
    # Deleting leaves the marker of an empty folder behind, which is no file of ours.
    assert (output.list_files("dt=1"), output.list_tree("")) == ([], ["top"])
    assert not output.exists("dt=1")


def test_an_object_is_one_request(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    output = Output.open(uri(proxy, f"{bucket}/out"))
    data = os.urandom(folder._ONE_REQUEST_BYTES - 1)
    proxy.calm()
    output.write("a", data)
    assert [(one.method, one.query) for one in proxy.seen] == [("PUT", "")]
    assert get(direct, f"{bucket}/out/a") == data


def test_a_large_object_comes_in_parts(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    output = Output.open(uri(proxy, f"{bucket}/out"))
    data = os.urandom(21 * 2**20)
    proxy.calm()
    output.write("a", data)
    assert proxy.count("PUT", "/out/a") > 1
    assert get(direct, f"{bucket}/out/a") == data


def test_a_missing_bucket_is_told_before_any_work(proxy: Proxy) -> None:
    with pytest.raises(OutputError, match="there is no bucket 'nowhere'; create it"):
        Output.open(uri(proxy, "nowhere/out"))


def test_commit_resume_and_success(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    put(direct, f"{bucket}/lake/dt=1/a.csv", b"text\n")
    [shard] = list_shards([uri(proxy, f"{bucket}/lake")]).shards
    index: ShardIndex = index_shard(shard)
    output = Output.open(uri(proxy, f"{bucket}/out"))

    def plan() -> Any:
        committed = read_committed(output, [shard]).footers
        return plan_run(
            [index], committed, config_digest="config", unit_rows=10, on_change="refuse"
        )

    first = plan()
    assert not first.shards[0].done
    mark_incomplete(output, first)
    footer = commit_rowless(output, STAMP, index)
    assert finish(output, "dt=1", first.shards, {footer.source_file: [footer]}) is None
    assert keys_of(direct, f"{bucket}/out") == ["dt=1/_SUCCESS", footer.unit_id]
    again = plan()
    assert again.shards[0].done
    assert again.shards[0].reused == (footer,)


@pytest.mark.parametrize("parts", [False, True], ids=["one request", "in parts"])
def test_a_fault_at_any_request_of_an_upload_publishes_all_or_nothing(
    monkeypatch: pytest.MonkeyPatch,
    proxy: Proxy,
    direct: fs.S3FileSystem,
    bucket: str,
    parts: bool,
) -> None:
    monkeypatch.setattr(storage, "S3_ATTEMPTS", 1)
    if parts:
        monkeypatch.setattr(folder, "_ONE_REQUEST_BYTES", 0)
    output = Output.open(uri(proxy, f"{bucket}/out"))
    proxy.calm()
    output.write("a", b"whole")
    requests = len(proxy.seen)
    assert requests == (3 if parts else 1)
    failed = 0
    for at, kind in itertools.product(range(requests), ("error", "slow down", "reset", "deaf")):
        direct.delete_file(f"{bucket}/out/a")
        proxy.calm()
        proxy.fault = lambda _, at=at, kind=kind: kind if len(proxy.seen) == at + 1 else None
        try:
            output.write("a", b"whole")
        except OutputError as error:
            failed += 1
            assert f"{bucket}/out/a: cannot be written" in str(error)  # noqa: PT017
            allowed = [None, b"whole"] if kind == "deaf" else [None]
        else:
            allowed = [b"whole"]
        proxy.calm()
        assert get(direct, f"{bucket}/out/a") in allowed, (at, kind)
        output.write("a", b"whole")
    assert failed > requests


def test_a_large_upload_that_cannot_start_publishes_nothing(
    monkeypatch: pytest.MonkeyPatch, proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    monkeypatch.setattr(storage, "S3_ATTEMPTS", 1)
    output = Output.open(uri(proxy, f"{bucket}/out"))
    proxy.calm()
    proxy.fault = lambda _: "error" if len(proxy.seen) == 1 else None
    with pytest.raises(OutputError, match="cannot be written"):
        output.write("a", bytes(11 * 2**20))
    assert get(direct, f"{bucket}/out/a") is None


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises here too: a shell lets its background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("parts", [False, True], ids=["one request", "in parts"])
@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_at_any_request_of_an_upload_publishes_no_torn_object(
    monkeypatch: pytest.MonkeyPatch,
    proxy: Proxy,
    direct: fs.S3FileSystem,
    bucket: str,
    parts: bool,
) -> None:
    if parts:
        monkeypatch.setattr(folder, "_ONE_REQUEST_BYTES", 0)
    output = Output.open(uri(proxy, f"{bucket}/out"))
    for at in range(3 if parts else 1):
        proxy.calm()

        def interrupt(_: Request, at: int = at) -> None:
            if len(proxy.seen) == at + 1:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)

        proxy.fault = interrupt
        with pytest.raises(KeyboardInterrupt):
            output.write(f"a{at}", b"whole")
        for thread in threading.enumerate():
            if thread.name.startswith("upload"):
                thread.join()
        assert get(direct, f"{bucket}/out/a{at}") == b"whole"


def test_racing_writers_leave_one_whole_object(
    proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    contents = [bytes([writer]) * 200_000 for writer in range(2)]
    seen: set[bytes | None] = set()

    def write(content: bytes) -> None:
        output = Output.open(uri(proxy, f"{bucket}/out"))
        for _ in range(10):
            output.write("unit.parquet", content)

    with ThreadPoolExecutor(2) as writers:
        done = [writers.submit(write, content) for content in contents]
        while not all(one.done() for one in done):
            seen.add(get(direct, f"{bucket}/out/unit.parquet"))
    for one in done:
        one.result()
    assert seen <= {None, *contents}
    assert get(direct, f"{bucket}/out/unit.parquet") in contents
    assert keys_of(direct, bucket) == ["out/unit.parquet"]


# Faults


def test_every_request_may_fail_once(proxy: Proxy, direct: fs.S3FileSystem, bucket: str) -> None:
    for name, data in shards_of_every_format().items():
        put(direct, f"{bucket}/lake/{name}", data)
    proxy.fault = once_each(["slow down", "reset", "error", "deaf", "half"])
    shards = list_shards([uri(proxy, f"{bucket}/lake")]).shards
    assert [read(shard).num_rows for shard in shards] == [3, 3, 3, 3]
    output = Output.open(uri(proxy, f"{bucket}/out"))
    output.write("a", b"one")
    assert (output.exists("a"), output.list_files("")) == (True, ["a"])
    output.delete("a")
    assert keys_of(direct, f"{bucket}/out") == []


@pytest.mark.usefixtures("impatient")
def test_a_store_that_is_silent_once_is_asked_again(
    proxy: Proxy, direct: fs.S3FileSystem, bucket: str
) -> None:
    put(direct, f"{bucket}/out/a", b"one")
    output = Output.open(uri(proxy, f"{bucket}/out"))
    proxy.calm()
    proxy.fault = once_each(["silent"])
    assert (output.exists("a"), output.list_files("")) == (True, ["a"])
    assert len(proxy.seen) == 4


@pytest.mark.usefixtures("impatient")
def test_a_store_that_stays_silent_is_an_error(proxy: Proxy, bucket: str) -> None:
    proxy.fault = always("silent")
    with pytest.raises(SourceError, match=rf"cannot list 's3://{bucket}/lake.*Timeout.*check"):
        list_shards([uri(proxy, f"{bucket}/lake")])
    with pytest.raises(OutputError, match=rf"s3://{bucket}/out.*cannot be opened .*Timeout.*check"):
        Output.open(uri(proxy, f"{bucket}/out"))


@pytest.mark.parametrize("kind", ["error", "slow down", "reset"])
@pytest.mark.usefixtures("impatient")
def test_a_store_that_keeps_failing_is_an_error_with_a_remedy(
    proxy: Proxy, direct: fs.S3FileSystem, bucket: str, kind: Fault
) -> None:
    put(direct, f"{bucket}/lake/a.csv", b"text\ngood\n")
    [shard] = list_shards([uri(proxy, f"{bucket}/lake")]).shards
    output = Output.open(uri(proxy, f"{bucket}/out"))
    proxy.fault = always(kind)
    remedy = "check the storage, its endpoint and credentials and run the same command again"
    with pytest.raises(OutputError, match=rf"{bucket}/out/a: cannot be written .*; {remedy}"):
        output.write("a", b"one")
    with pytest.raises(OutputError, match=rf"{bucket}/out: cannot be listed .*; {remedy}"):
        output.list_files("")
    with pytest.raises(OutputError, match=rf"{bucket}/out/a: cannot be looked up .*; {remedy}"):
        output.exists("a")
    with pytest.raises(SourceError, match=rf"cannot list 's3://{bucket}/lake.*check"):
        list_shards([uri(proxy, f"{bucket}/lake")])
    # No fault of the file: nothing of it may be rejected.
    with pytest.raises(OSError, match=rf"'lake/a.csv' in bucket '{bucket}'"):
        index_shard(shard)
    proxy.calm()
    output.write("a", b"one")
    assert read(shard).num_rows == 1


@pytest.mark.slow
def test_a_dead_store_is_given_up_within_three_minutes(proxy: Proxy) -> None:
    proxy.fault = always("silent")
    dead = "s3://bucket/out?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        for failed in [
            threads.submit(Output.open, one) for one in (uri(proxy, "bucket/out"), dead)
        ]:
            with pytest.raises(OutputError, match="cannot be opened"):
                failed.result()
    assert 20 < time.monotonic() - started < 180


# Whole runs


@pytest.fixture(scope="module")
def runs(store: str, a_proxy: Proxy, tiny_model: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """What the same job says of a local lake, of one in a store and of one in an unreliable store.

    In a process of its own: its workers must find the store's keys in their environment.
    """
    examples = Path(__file__).resolve().parent.parent / "examples" / "reviews"
    direct = object_store.client(store)
    direct.create_dir("job")
    fs.copy_files(str(examples), "job/lake", fs.LocalFileSystem(), direct, use_threads=False)
    local = tmp_path_factory.mktemp("job")
    requests = itertools.count(1)
    a_proxy.calm()
    a_proxy.fault = lambda _: (
        next(faults) if next(requests) % 20 == 0 else None  # 5 % of all requests
    )
    faults = itertools.cycle(["slow down", "reset", "error", "deaf", "half"])
    plain = "?endpoint_override={}&scheme=http&region=us-east-1"
    jobs = {
        "local": (str(examples), str(local / "out")),
        "plain": tuple(f"s3://job/{name}{plain.format(store)}" for name in ("lake", "plain")),
        "faulty": tuple(
            f"s3://job/{name}{plain.format(a_proxy.endpoint)}" for name in ("lake", "faulty")
        ),
    }
    done = subprocess.run(
        [sys.executable, object_store.__file__, "score", str(tiny_model), json.dumps(jobs)],
        env={**os.environ, **object_store.KEYS},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    ledgers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    seen = len(a_proxy.seen)
    a_proxy.calm()
    return {"ledgers": ledgers, "local": local / "out", "direct": direct, "requests": seen}


def rows_of(filesystem: fs.FileSystem, folder: str) -> list[tuple[Any, ...]]:
    """Id, label and score of all rows, by id."""
    infos = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    names = ["review_id", "sentiment", "sentiment_score", "sentiment_source_row"]
    rows: list[tuple[Any, ...]] = []
    for info in infos:
        if info.path.endswith(".parquet") and "/_sentiment/" not in info.path:
            table = pq.read_table(info.path, filesystem=filesystem, partitioning=None)
            rows += zip(*(table[name].cast(pa.string()).to_pylist() for name in names), strict=True)
    return sorted(rows)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "faulty"])
def test_a_run_in_a_store_gives_the_rows_of_a_local_run(runs: dict[str, Any], kind: str) -> None:
    assert runs["ledgers"][kind] == [326, 320, 6, 0]
    here = rows_of(fs.LocalFileSystem(), str(runs["local"]))
    assert len(here) == 320
    assert rows_of(runs["direct"], f"job/{kind}") == here
    found = keys_of(runs["direct"], f"job/{kind}")
    assert sum(name.endswith("/_SUCCESS") for name in found) == 3


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "faulty"])
def test_a_rerun_in_a_store_reuses_everything(runs: dict[str, Any], kind: str) -> None:
    assert runs["ledgers"][f"{kind} again"] == [326, 0, 0, 326]


@pytest.mark.ray
@pytest.mark.slow
def test_the_unreliable_store_was_unreliable(runs: dict[str, Any]) -> None:
    assert runs["requests"] > 100
