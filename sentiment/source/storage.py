"""Where files live: a path or URI becomes a pyarrow filesystem, and a shard is checked for change.

Takes locations, gives filesystems, locations and the state of a shard. Knows no file format.
"""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from sentiment.errors import SourceError
from sentiment.schema import Shard

# What pyarrow and the operating system raise when bytes cannot be had.
STORAGE_ERRORS = (OSError, pa.ArrowException)

# Characters that may stand in a URI as they are. `%` is among them: a URI arrives already encoded,
# and only what the parser would refuse (spaces, letters beyond ASCII) is encoded here.
_URI_SAFE = "/:?#[]@!$&'()*+,;=%-._~"
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
_DETAIL_CHARS = 300


def is_uri(location: str) -> bool:
    """Whether a location names its filesystem, as `s3://…` does, instead of being a local path."""
    return "://" in location


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a location and the path inside it.

    Args:
        uri: A local path, or a URI that pyarrow knows (`s3://…`, `gs://…`, `file://…`). A query
            (`?region=…&endpoint_override=…`) configures the filesystem. Nothing needs to exist.

    Returns:
        The filesystem and the path to use with it, absolute for local files, without a trailing
        slash.

    Raises:
        SourceError: pyarrow does not know the scheme or cannot set the filesystem up.
    """
    if not is_uri(uri):
        return fs.LocalFileSystem(), os.path.abspath(uri)
    try:
        filesystem, path = fs.FileSystem.from_uri(quote(uri, safe=_URI_SAFE))
    except (*STORAGE_ERRORS, ValueError) as error:
        raise SourceError(
            f"cannot open {uri!r}: {one_line(error)}; give a local path or a URI such as "
            "s3://bucket/folder, and check credentials and region"
        ) from error
    return filesystem, path.rstrip("/") or "/"


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


def fingerprint(info: fs.FileInfo) -> str:
    """The part of a shard's fingerprint that costs no read: size in bytes and mtime in ns."""
    return f"{info.size or 0}-{info.mtime_ns or 0}"


def state_of(shard: Shard) -> tuple[str, str] | None:
    """Compare a shard with what was listed.

    Returns:
        None while the file is as it was; otherwise reason and detail of the reject.

    Raises:
        OSError: The storage itself does not answer. No fault of the data, so the task should be
            tried again instead of writing rejects.
    """
    filesystem, path = open_filesystem(shard.uri)
    try:
        info = filesystem.get_file_info(path)
    except PermissionError as error:
        return "unreadable_file", one_line(error)
    if info.type != fs.FileType.File:
        return "unreadable_file", "the file is gone since it was listed"
    # The rest of a Parquet fingerprint hashes the footer, which would cost a read.
    if f"{shard.fingerprint}-".startswith(f"{fingerprint(info)}-"):
        return None
    return "unreadable_rows", "the file changed since it was listed; run again to score it"


def one_line(error: BaseException) -> str:
    """What an error says: its first line, cut short, never empty."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:_DETAIL_CHARS]
