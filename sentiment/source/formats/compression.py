"""Unpacks compressed shards, as streams of bytes that end at the same byte every time.

How many bytes of a damaged archive can be unpacked depends on the sizes of the reads. Here they are
always the same, from the start on, so that reading ends at the row at which indexing ended.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final, cast

import pyarrow as pa

from sentiment.source.layout import UTF_8, WIDE_ENCODINGS, Compression
from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, open_filesystem

# What the unpackers raise for damage. `zipfile` raises RuntimeError for a member with a password,
# and recoding UnicodeDecodeError where a text ends within a letter.
UNPACK_ERRORS: Final = (
    *STORAGE_ERRORS,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    UnicodeDecodeError,
)
MAGIC_BYTES: Final = 6

# On an object store every read is a request.
_BUFFER_BYTES = 1024 * 1024
# Bytes unpacked at a time. A piece in which damage is found is lost as a whole.
_PIECE_BYTES = 16 * 1024
_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
# How Arrow tells that a new frame was expected.
_JUNK = re.compile("Unknown frame descriptor|frameType_unknown")
ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")  # the second one has no members


def compression_of(start: bytes) -> Compression | None:
    """Return how a file is compressed that starts with these bytes; None if it is not."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), None)


def is_corruption(error: BaseException) -> bool:
    """Whether an error of unpacking says that bytes are wrong, and not merely missing.

    Checksums stand at the end, so that what was unpacked before may be wrong as well. Junk behind
    the end of an archive is no corruption: all before it was checked.
    """
    message = str(error)
    if isinstance(error, gzip.BadGzipFile):
        return not message.startswith("Not a gzipped file")
    return (
        isinstance(error, zlib.error | lzma.LZMAError | zipfile.BadZipFile)
        or message == "Invalid data stream"  # bzip2
        or ("decompress failed" in message and not _JUNK.search(message))
    )


def open_unpacked(file: Any, shard: Shard) -> io.BufferedReader:
    """Return the unpacked bytes of a shard.

    Args:
        file: Its file, at the start, and seekable. It is closed with the stream.
        shard: The shard; its layout is known.

    Raises:
        UNPACK_ERRORS: Later reads may raise them, too.
    """
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    stream = io.BufferedReader(file, _BUFFER_BYTES)
    if shard.member is not None:
        stream = open_member(stream, shard.member.path)
    for compression in shard.layout.compression:
        stream = unpack(stream, compression)
    if shard.layout.encoding != UTF_8:
        stream = recode(stream, shard.layout.encoding)
    return stream


def recode(stream: IO[bytes], encoding: str) -> io.BufferedReader:
    """Return a text in UTF-8. Bytes that are not in its encoding stay as they are.

    So they are not UTF-8, and cost what such bytes cost anywhere.
    """
    # Half a surrogate pair is all that can be wrong within UTF-16.
    errors = "surrogatepass" if encoding in WIDE_ENCODINGS else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)

    def read(count: int) -> bytes:
        while piece := stream.read(count):
            if text := decoder.decode(piece):
                return text.encode("utf-8", errors)
        return decoder.decode(b"", final=True).encode("utf-8", errors)

    return io.BufferedReader(_Pieces(read), _PIECE_BYTES)


@contextmanager
def open_seekable(shard: Shard) -> Iterator[tuple[Any, int]]:
    """Open the unpacked bytes of a shard for reading at any place; its size comes along.

    Binary formats are read from their end. What is compressed as a whole is unpacked to a temporary
    file, which nobody else sees.

    Raises:
        UNPACK_ERRORS: It cannot be opened or unpacked.
    """
    filesystem, path = open_filesystem(shard.file_uri)
    with filesystem.open_input_file(path) as file:
        if not shard.has_one_entry:
            yield file, shard.size_bytes
            return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(open_unpacked(file, shard), unpacked)
            size_bytes = unpacked.tell()
            unpacked.seek(0)
            yield pa.PythonFile(unpacked, mode="r"), size_bytes


def open_member(stream: IO[bytes], path: str) -> io.BufferedReader:
    """Return the bytes of a member of a zip archive, see `open_unpacked`."""
    return io.BufferedReader(
        _Pieces(cast(zipfile.ZipExtFile, zipfile.ZipFile(stream).open(path)).read1), _PIECE_BYTES
    )


def unpack(stream: IO[bytes], compression: Compression) -> io.BufferedReader:
    """Return the bytes of a stream with one compression undone, see `open_unpacked`."""
    return io.BufferedReader(_Pieces(_UNPACKERS[compression](stream)), _PIECE_BYTES)


class _Pieces(io.RawIOBase):
    """Bytes that are unpacked in pieces of one size, whatever sizes are read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        if not self._piece:
            self._piece = memoryview(self._read(_PIECE_BYTES))
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


# `read1` of the standard library's unpackers returns what one step has unpacked: damage in the next
# step does not cost it.


_UNPACKERS: dict[Compression, Callable[[IO[bytes]], Callable[[int], bytes]]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream, mode="rb").read1,
    "bzip2": lambda stream: bz2.BZ2File(stream).read1,
    "xz": lambda stream: lzma.LZMAFile(stream).read1,  # noqa: SIM115 - closed with what is below
    "zstd": lambda stream: pa.CompressedInputStream(stream, "zstd").read,
    "lz4": lambda stream: pa.CompressedInputStream(stream, "lz4").read,
}
