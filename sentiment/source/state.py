"""Detects that a shard has changed, by its fingerprint: size, time and a hash of its footer."""

from __future__ import annotations

import hashlib
import re
import socket

from pyarrow import fs

from sentiment.errors import SourceChangedError
from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

_WITH_FOOTER = re.compile(r"\d+--?\d+-[0-9a-f]{16}")
# Fingerprint of a file that does not exist: no bytes, no time.
_NOTHING = "0-0"

_FOOTER_GUESS_BYTES = 64 * 1024
# A damaged length may claim gigabytes. The end of a footer tells as much as all of it.
_FOOTER_MOST_BYTES = 16 * 1024 * 1024


def fingerprint_of(
    filesystem: fs.FileSystem, path: str, info: fs.FileInfo, *, is_parquet: bool
) -> str:
    """Return the fingerprint of a file; it changes whenever the content may have changed.

    A hash of the footer is part of it for Parquet, where one small read finds changes that keep the
    size and the time.
    """
    fingerprint = _size_and_time(info)
    if is_parquet:
        fingerprint += _footer_hash(filesystem, path, info.size or 0)
    return fingerprint


def had_footer(shard: Shard) -> bool:
    """Whether a footer of Parquet was found when the shard was listed."""
    return _WITH_FOOTER.fullmatch(shard.fingerprint) is not None


def _size_and_time(info: fs.FileInfo) -> str:
    """Return the part of a fingerprint that needs no read: size in bytes and mtime in ns."""
    return f"{info.size or 0}-{info.mtime_ns or 0}"


def was_missing(shard: Shard) -> bool:
    """Whether there was nothing where a shard was listed: a link that leads nowhere."""
    return shard.fingerprint == _NOTHING


def check_unchanged(shard: Shard) -> None:
    """Check that the file of a shard is still as it was listed.

    Raises:
        SourceChangedError: It is gone, has changed, or this process may not look at it.
        OSError: The storage does not answer.
    """
    filesystem, path = open_filesystem(shard.file_uri)
    try:
        info = filesystem.get_file_info(path)
    except PermissionError as error:
        raise SourceChangedError(
            f"{shard.uri}: {one_line(error)} on {socket.gethostname()}; let every node read it"
        ) from error
    if info.type == fs.FileType.NotFound and was_missing(shard):
        return
    if info.type != fs.FileType.File:
        raise SourceChangedError(
            f"{shard.uri}: the file is gone since it was listed, or {socket.gethostname()} does "
            "not see it"
        )
    # Only the first part is compared: the rest is a hash of the footer, which needs a read.
    if not f"{shard.fingerprint}-".startswith(f"{_size_and_time(info)}-"):
        raise SourceChangedError(f"{shard.uri}: the file changed since it was listed")


def _footer_hash(filesystem: fs.FileSystem, path: str, size_bytes: int) -> str:
    """Return `-` and 16 hex digits of the footer's SHA-256; "" if there is no footer."""
    if size_bytes < 12:
        return ""
    try:
        with filesystem.open_input_file(path) as file:
            guess = min(size_bytes, _FOOTER_GUESS_BYTES)
            tail = file.read_at(guess, size_bytes - guess)
            footer_bytes = 8 + int.from_bytes(tail[-8:-4], "little")
            if tail[-4:] != b"PAR1" or footer_bytes > size_bytes - 4:
                return ""
            footer_bytes = min(footer_bytes, _FOOTER_MOST_BYTES)
            if footer_bytes > len(tail):
                tail = file.read_at(footer_bytes, size_bytes - footer_bytes)
    except STORAGE_ERRORS:
        return ""  # indexing opens the file again and reports what is wrong with it
    return "-" + hashlib.sha256(tail[-footer_bytes:]).hexdigest()[:16]
