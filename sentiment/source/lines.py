"""Reads the lines of a text shard, plain or gzip, from a byte offset on.

All ways in which the bytes can end early, or turn out not to be text, raise one error.
"""

from __future__ import annotations

import gzip
import io
import zlib
from types import TracebackType
from typing import Final

from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

# The largest record. A file without line ends must not fill the memory, and the tokenizer needs
# about 100 bytes of memory for each byte of text.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"

_BUFFER_BYTES = 1024 * 1024
_HEAD_BYTES = 128 * 1024
# First bytes of files that are not UTF-8 text. `PAR1` alone may be the name of a CSV column; in a
# Parquet file the byte 15 (hexadecimal) follows.
_FOREIGN = {
    b"PAR1\x15": "the file is Parquet; give it a name that ends in .parquet",
    b"\x1f\x8b": "the file is gzip; give it a name that ends in .gz, or unpack it once more",
    b"\x28\xb5\x2f\xfd": "the file is compressed with zstd; only gzip is read",
    b"PK\x03\x04": "the file is a zip archive; only gzip is read",
    b"\xff\xfe": "the file is UTF-16; only UTF-8 is read",
    b"\xfe\xff": "the file is UTF-16; only UTF-8 is read",
}


class DamageError(Exception):
    """The rest of the file cannot be read. Always caught within this folder."""


class LongLineError(Exception):
    """A line exceeds MAX_RECORD_BYTES; the next line can be read. Always caught within this folder.

    Attributes:
        head: The first bytes of the line.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__(f"a line is longer than {MAX_RECORD_BYTES} bytes")
        self.head = head


class Lines:
    """The lines of one text shard, with their line ends and without a byte order mark.

    Attributes:
        offset_bytes: Where the next line starts in the decompressed file.
        at_end: Whether `next_line` has reached the end of the file.
    """

    def __init__(self, shard: Shard, offset_bytes: int = 0) -> None:
        """Open a shard.

        Args:
            shard: A CSV, TSV or JSON Lines file; a name ending in `.gz` is decompressed.
            offset_bytes: Start of a line in the decompressed file.

        Raises:
            DamageError: The file cannot be opened or ends before the offset.
        """
        self.offset_bytes = 0
        self.at_end = False
        filesystem, path = open_filesystem(shard.uri)
        try:
            self._file = filesystem.open_input_file(path)
        except STORAGE_ERRORS as error:
            raise DamageError(one_line(error)) from error
        try:
            self._stream = self._open(shard.name.lower().endswith(".gz"), offset_bytes)
        except BaseException:
            self._file.close()
            raise

    def _open(self, compressed: bool, offset_bytes: int) -> io.BufferedReader | gzip.GzipFile:
        if not compressed:
            stream = io.BufferedReader(self._file, _BUFFER_BYTES)
            stream.seek(offset_bytes)
            self.offset_bytes = offset_bytes
            return stream
        # Skip by reading line by line, as indexing did. How many bytes of a damaged archive can be
        # decompressed depends on the sizes of the reads: with the same reads it ends at the same
        # record as in the index. A buffer of decompressed bytes would lose the last good ones.
        # Compressed bytes are buffered: gzip reads a few at a time, and on an object store every
        # read is a request.
        buffered = io.BufferedReader(self._file, _BUFFER_BYTES)
        self._stream = gzip.GzipFile(fileobj=buffered, mode="rb")
        while self.offset_bytes < offset_bytes and not self.at_end:
            try:
                self.next_line()
            except LongLineError:
                continue
        return self._stream

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def next_line(self) -> bytes:
        """Return the next line with its line end; b"" at the end of the file.

        Raises:
            LongLineError: The line exceeds MAX_RECORD_BYTES; it is skipped.
            DamageError: No more bytes can be read or decompressed, or the file is not text.
        """
        try:
            line = self._stream.readline(MAX_RECORD_BYTES)
            first = self.offset_bytes == 0
            if first:
                _check_start(line)
            self.offset_bytes += len(line)
            if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
                self._skip_line()
                raise LongLineError(line[:_HEAD_BYTES])
        except (*STORAGE_ERRORS, EOFError, zlib.error) as error:
            raise DamageError(one_line(error)) from error
        self.at_end = not line
        return line.removeprefix(BOM) if first else line

    def _skip_line(self) -> None:
        """Read to the end of the current line."""
        while rest := self._stream.readline(_BUFFER_BYTES):
            self.offset_bytes += len(rest)
            if rest.endswith(b"\n"):
                return


def _check_start(line: bytes) -> None:
    """Raise DamageError if the first line of a file shows that it is not UTF-8 text."""
    for start, problem in _FOREIGN.items():
        if line.startswith(start):
            raise DamageError(problem)
    # UTF-16 without a byte order mark: every second byte of Latin letters is zero.
    zeros = [byte == 0 for byte in line[:4]]
    if zeros in ([False, True, False, True], [True, False, True, False]):
        raise DamageError("the file is UTF-16; only UTF-8 is read")
