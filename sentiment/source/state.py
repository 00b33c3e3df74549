"""The fingerprint of a file: size, time and content, to notice that it has changed."""

from __future__ import annotations

from pyarrow import fs

from sentiment.source.shards import Shard
from sentiment.storage import one_line, open_filesystem


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
