"""Opens paths and URIs as pyarrow filesystems, with retries where the storage is S3.

Object stores fail from time to time, and in many ways: with status 500 or 503, a connection reset,
or no answer at all. The S3 client that is made here retries with growing pauses and gives up within
three minutes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from sentiment.errors import SourceError

# Threads that read many small things, such as footers. They wait for storage and hardly compute, so
# there are more of them than cores.
STORAGE_THREADS: Final = 16

# What pyarrow and the operating system raise when they cannot read or write.
STORAGE_ERRORS = (OSError, pa.ArrowException)

# Characters of a URI that are not percent-encoded here. `%` is among them, because users give URIs
# that are already encoded: only what the parser refuses (spaces, letters beyond ASCII) is encoded.
_URI_SAFE = "/:?#[]@!$&'()*+,;=%-._~"
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
_DETAIL_CHARS = 300

# Errors of an object store that concern one object, as pyarrow spells them. All others are outages.
_OBJECT_ERRORS = ("ACCESS_DENIED", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "INVALID_OBJECT_STATE")

# Names of query parameters that hold a secret, such as `sig` of Azure and `X-Amz-Signature`.
_SECRET_NAME = re.compile(r"sig(nature)?$|secret|key|token|password|security", re.IGNORECASE)

_AZURE_REMEDY = "log in with a managed identity or the Azure CLI, or set AZURE_CLIENT_SECRET"
_KEY_REMEDIES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials or a role",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS, or use a service account of the machine",
    "abfs": _AZURE_REMEDY,
    "abfss": _AZURE_REMEDY,
}

# Timeouts and retries of an S3 client. By default the AWS SDK waits 3 seconds for an answer, which
# is too short for a busy store. The pause before a retry is drawn at random up to a limit that
# grows from 1 to 20 seconds. A store that never answers fails after at most 7 * 10 + 51 seconds. An
# upload takes about 7 seconds longer to notice that no answer comes, and fails within three
# minutes.
S3_CONNECT_SEC = 5.0
S3_SILENT_SEC = 10.0
S3_ATTEMPTS = 7

# Where the storage answers at once, as a local disk does, calls mostly compute. Python computes in
# one thread at a time, and 16 of them would mostly wait for each other.
_BUSY_THREADS = 2

# Items by which it is found out which of the two a storage is.
_TRIED_ITEMS = 4

_CHUNK_ITEMS = 128
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function on every item in several threads, as it may wait for the storage.

    Returns:
        The results, in the order of the items.
    """
    return parts_in_threads(lambda part: [function(item) for item in part], items)


def parts_in_threads(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item]
) -> list[Result]:
    """Call a function on parts of a list in several threads, as it may wait for the storage.

    A task for every single item would cost more than reading a small local file does. The first
    items tell how many threads are worth it.

    Args:
        function: Returns a result for each item of the part it gets.
        items: All items.

    Returns:
        The results, in the order of the items.
    """
    results, threads = list[Result](), STORAGE_THREADS
    if len(items) >= _TRIED_ITEMS * STORAGE_THREADS:
        started, computed = time.perf_counter(), time.thread_time()
        results, items = function(items[:_TRIED_ITEMS]), items[_TRIED_ITEMS:]
        if time.thread_time() - computed > (time.perf_counter() - started) / 2:
            threads = _BUSY_THREADS
    size = max(1, min(_CHUNK_ITEMS, len(items) // (4 * STORAGE_THREADS)))
    parts = [items[start : start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(function, parts):
            results.extend(part)
    return results


def is_uri(location: str) -> bool:
    """Whether a location is a URI, such as `s3://…`, and not a local path."""
    return "://" in location


def identity_of(location: str) -> str:
    """Return the one name by which a file or a folder is known, however a user spells it.

    Returns:
        A local path without links, also for `file://…`. A URI without its query, with the path
        percent-encoded in one way: the query says how to reach the store, not what lies in it, and
        it may hold a token that changes every day.
    """
    if not is_uri(location):
        return os.path.realpath(location)
    scheme, _, rest = location.partition("://")
    if scheme.lower() == "file":
        return os.path.realpath(open_filesystem(location)[1])
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme.lower()}://{host}{slash}{quote(unquote(path), safe=_PATH_SAFE)}".rstrip("/")


def is_below(location: str, folder: str) -> bool:
    """Whether a file or a folder is the given folder or lies in it; both are identities."""
    return f"{location}/".startswith(f"{folder.rstrip('/')}/")


def is_hidden(path: str) -> bool:
    """Whether a name, or any folder of a path, starts with `_` or `.`.

    Spark, Hive, DuckDB and pyarrow datasets skip such names, and so does this project.
    """
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def open_filesystem(location: str) -> tuple[fs.FileSystem, str]:
    """Open the filesystem of a location.

    Args:
        location: A local path, or a URI that pyarrow knows (`s3://…`, `gs://…`, `file://…`). A
            query (`?region=…&endpoint_override=…`) configures the filesystem. The file or folder
            need not exist. Keys of S3 come from the environment or from files of the AWS tools, not
            from the URI.

    Returns:
        The filesystem and the path to use with it, absolute for local files, without a trailing
        slash.

    Raises:
        SourceError: pyarrow does not know the scheme or cannot set the filesystem up, or the URI
            holds a secret.
    """
    if not is_uri(location):
        return fs.LocalFileSystem(), os.path.abspath(location)
    _refuse_secrets(location)
    try:
        filesystem, path = fs.FileSystem.from_uri(quote(location, safe=_URI_SAFE))
    except (*STORAGE_ERRORS, ValueError) as error:
        raise SourceError(
            f"cannot open {location!r}: {one_line(error)}; give a local path or a URI such as "
            "s3://bucket/folder, and check credentials and region"
        ) from error
    if isinstance(filesystem, fs.S3FileSystem):
        filesystem = _with_retries(filesystem)
    return filesystem, path.rstrip("/") or "/"


def _refuse_secrets(location: str) -> None:
    """Refuse a URI that holds a key or a token.

    The location of a source stands in logs and in `run.json`, where everybody can read it.

    Raises:
        SourceError: It holds one. The message does not show it.
    """
    parts = urlsplit(location)
    in_query = [name for name, _ in parse_qsl(parts.query) if _SECRET_NAME.search(name)]
    # In `abfss://container@account/…` and `hdfs://user@host/…` a name stands before the `@`.
    in_host = "@" in parts.netloc and (parts.scheme == "s3" or parts.password is not None)
    if not (in_query or in_host):
        return
    where = f"in its query ({in_query[0]}=)" if in_query else "before its host"
    raise SourceError(
        f"a {parts.scheme}:// URI holds keys {where}, and they would end up in the output; "
        f"{_KEY_REMEDIES.get(parts.scheme, 'give them in the environment')}"
    )


def for_small_objects(filesystem: fs.S3FileSystem) -> fs.S3FileSystem:
    """Return a client of the same store that writes objects below 10 MiB in one request.

    It must not write larger objects. If the first request of an upload in parts fails, pyarrow
    writes an empty object when it closes the stream, and so replaces the object that was there.
    """
    return _client(_frozen({**_options(filesystem), "allow_delayed_open": True}))


def _with_retries(filesystem: fs.S3FileSystem) -> fs.S3FileSystem:
    """Return a client of the same store with the timeouts and retries above."""
    timeouts = {"connect_timeout": S3_CONNECT_SEC, "request_timeout": S3_SILENT_SEC}
    return _client(_frozen({**_options(filesystem), **timeouts, "allow_delayed_open": False}))


def _options(filesystem: fs.S3FileSystem) -> dict[str, Any]:
    """Return the arguments with which a client was made.

    pyarrow has no method for that, but pickling keeps them. Keys from the environment are not among
    them: the new client reads them there again, also after they are renewed.
    """
    _, (options,) = filesystem.__reduce__()
    return dict(options)


def _frozen(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return options in a form that can be a key of a cache."""
    proxy = tuple(sorted((options.pop("proxy_options", None) or {}).items()))
    return (*sorted(options.items()), ("proxy_options", proxy), ("attempts", S3_ATTEMPTS))


@lru_cache(maxsize=64)
def _client(frozen: tuple[tuple[str, Any], ...]) -> fs.S3FileSystem:
    """Make a client, once per store and process, so that connections and keys are used again."""
    options = dict(frozen)
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=options.pop("attempts"))
    options["proxy_options"] = dict(options["proxy_options"]) or None
    return fs.S3FileSystem(**options, retry_strategy=retry)


def descendant_uri(base: str, relative: str) -> str:
    """Return the location of a file or folder below a folder.

    Args:
        base: The folder, as a local path or URI.
        relative: Path below `base`, `/`-separated, not percent-encoded; "" for `base` itself.

    Returns:
        An absolute path if the folder is local, also if it is given as `file://…`. Otherwise a URI
        that `open_filesystem` opens, with the path percent-encoded and the query of `base`.
    """
    if not is_uri(base):
        path = os.path.abspath(base)
        return os.path.join(path, relative) if relative else path
    if urlsplit(base).scheme == "file":
        return descendant_uri(open_filesystem(base)[1], relative)
    location, mark, query = base.partition("?")
    parts = [quote(location, safe=_URI_SAFE).rstrip("/"), quote(relative, safe=_PATH_SAFE)]
    return "/".join(part for part in parts if part) + mark + query


def is_outage(detail: str) -> bool:
    """Whether an error of pyarrow is about an object store as a whole, not about one object.

    Args:
        detail: The message of the error.
    """
    return "AWS Error" in detail and not any(kind in detail for kind in _OBJECT_ERRORS)


def one_line(error: BaseException) -> str:
    """Return the first line of an error's message, shortened; its class if there is no message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_DETAIL_CHARS]
