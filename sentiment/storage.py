"""Paths and URIs as pyarrow filesystems, and how failures of storage are recognised.

Object stores fail now and then: with status 500 or 503, with a reset, or without an answer. The S3
client that is opened here retries with growing pauses, and reports a store that does not answer
within three minutes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from sentiment.errors import SourceError

# Threads of a pool that waits for storage. They wait and do not compute, so there are more of them
# than cores.
WAITING_THREADS: Final = 16

# What pyarrow and the operating system raise when bytes cannot be had.
STORAGE_ERRORS = (OSError, pa.ArrowException)

# Characters that may stand in a URI as they are. `%` is among them: a URI arrives already encoded,
# and only what the parser would refuse (spaces, letters beyond ASCII) is encoded here.
_URI_SAFE = "/:?#[]@!$&'()*+,;=%-._~"
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
_DETAIL_CHARS = 300

# What an object store says of one object, as pyarrow spells it; anything else is about the store.
_OBJECT_ERRORS = ("ACCESS_DENIED", "NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "INVALID_OBJECT_STATE")

# How patient an S3 client is. By itself the AWS SDK gives a request up after 3 silent seconds, too
# few for a busy store. Pauses grow from 1 to 20 seconds, each drawn at random up to that: a store
# that answers nothing is given up after 7 * 10 + 51 seconds at most; uploads notice silence some 7
# seconds later and take up to three minutes.
S3_CONNECT_SEC = 5.0
S3_SILENT_SEC = 10.0
S3_ATTEMPTS = 7


def is_hidden(path: str) -> bool:
    """Whether readers of data sets skip this path: a part of it starts with `_` or `.`."""
    return any(part.startswith(("_", ".")) for part in path.split("/"))


def is_uri(location: str) -> bool:
    """Whether a location names its filesystem, as `s3://…` does, instead of being a local path."""
    return "://" in location


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a location and the path inside it.

    Args:
        uri: A local path, or a URI that pyarrow knows (`s3://…`, `gs://…`, `file://…`). A query
            (`?region=…&endpoint_override=…`) configures the filesystem. Nothing needs to exist.
            Keys of S3 come from the environment or from files of the AWS tools, not from the URI.

    Returns:
        The filesystem and the path to use with it, absolute for local files, without a trailing
        slash.

    Raises:
        SourceError: pyarrow does not know the scheme or cannot set the filesystem up, or the URI
            holds a secret.
    """
    if not is_uri(uri):
        return fs.LocalFileSystem(), os.path.abspath(uri)
    if "@" in urlsplit(uri).netloc and urlsplit(uri).scheme == "s3":
        # Every labelled row names its source by URI.
        raise SourceError(
            "an s3:// URI may not hold keys, they would end up in the output; set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use ~/.aws/credentials or a role"
        )
    try:
        filesystem, path = fs.FileSystem.from_uri(quote(uri, safe=_URI_SAFE))
    except (*STORAGE_ERRORS, ValueError) as error:
        raise SourceError(
            f"cannot open {uri!r}: {one_line(error)}; give a local path or a URI such as "
            "s3://bucket/folder, and check credentials and region"
        ) from error
    if isinstance(filesystem, fs.S3FileSystem):
        filesystem = _patient(filesystem)
    return filesystem, path.rstrip("/") or "/"


def for_small_objects(filesystem: fs.S3FileSystem) -> fs.S3FileSystem:
    """The same store, where an object below 10 MiB is one request instead of three.

    Not for larger objects: should the first request of a longer upload fail, pyarrow then puts an
    empty object in the place of the large one when the stream is closed.
    """
    return _client(_frozen({**_options(filesystem), "allow_delayed_open": True}))


def _patient(filesystem: fs.S3FileSystem) -> fs.S3FileSystem:
    """The same store through a client that withstands what stores do."""
    timeouts = {"connect_timeout": S3_CONNECT_SEC, "request_timeout": S3_SILENT_SEC}
    return _client(_frozen({**_options(filesystem), **timeouts, "allow_delayed_open": False}))


def _options(filesystem: fs.S3FileSystem) -> dict[str, Any]:
    """The constructor's arguments: what pickling keeps, since URI and environment decide them.

    Keys found in the environment are not among them: the new client finds them there again, and
    goes on finding them when they are renewed.
    """
    _, (options,) = filesystem.__reduce__()
    return dict(options)


def _frozen(options: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    proxy = tuple(sorted((options.pop("proxy_options", None) or {}).items()))
    return (*sorted(options.items()), ("proxy_options", proxy), ("attempts", S3_ATTEMPTS))


@lru_cache(maxsize=64)
def _client(frozen: tuple[tuple[str, Any], ...]) -> fs.S3FileSystem:
    """One client per store and process: it keeps its connections and the keys it was lent."""
    options = dict(frozen)
    retry = fs.AwsStandardS3RetryStrategy(max_attempts=options.pop("attempts"))
    options["proxy_options"] = dict(options["proxy_options"]) or None
    return fs.S3FileSystem(**options, retry_strategy=retry)


def descendant_uri(base: str, relative: str) -> str:
    """The location of something below a folder.

    Args:
        base: The folder, as a local path or URI.
        relative: Path below it, `/`-separated, not percent-encoded; "" for the folder itself.

    Returns:
        A plain absolute path for local files, `file://` included; otherwise a URI that
        `open_filesystem` opens, with the query of `base` and the path percent-encoded.
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
    """Whether what went wrong was an object store, and not the object in it.

    Args:
        detail: What pyarrow said.
    """
    return "AWS Error" in detail and not any(kind in detail for kind in _OBJECT_ERRORS)


def one_line(error: BaseException) -> str:
    """What an error says: its first line, cut short, never empty."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_DETAIL_CHARS]
