"""The lines of a text shard as bytes with their offsets, plain or gzip.

Every way in which the bytes can end early is one error, `DamageError`.
"""

from __future__ import annotations

import gzip
import io
import zlib
from types import TracebackType
from typing import Final

from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

# One record may not be larger than this: a file without line ends must not fill the memory, and
# a tokenizer takes about 100 bytes for each of the text.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
# Rows between two places where a unit may start.
CUT_ROWS: Final = 1024
BOM: Final = b"\xef\xbb\xbf"

_BUFFER_BYTES = 1024 * 1024
_HEAD_BYTES = 128 * 1024
# How files start that are no UTF-8 text. A Parquet file goes on with the number of a field, so that
# a column may be called PAR1.
_FOREIGN = {
    b"PAR1\x15": "the file is Parquet; give it a name that ends in .parquet",
    b"\x1f\x8b": "the file is gzip; give it a name that ends in .gz, or unpack it once more",
    b"\x28\xb5\x2f\xfd": "the file is compressed with zstd; only gzip is read",
    b"PK\x03\x04": "the file is a zip archive; only gzip is read",
    b"\xff\xfe": "the file is UTF-16; only UTF-8 is read",
    b"\xfe\xff": "the file is UTF-16; only UTF-8 is read",
}


class DamageError(Exception):
    """The rest of the file cannot be read. Always caught inside `source`."""


class LongLineError(Exception):
    """A line exceeds MAX_RECORD_BYTES. Always caught inside `source`; the next line is readable.

    Attributes:
        head: How the line starts.
    """

    def __init__(self, head: bytes) -> None:
        super().__init__(f"a line is longer than {MAX_RECORD_BYTES} bytes")
        self.head = head


class Lines:
    """Lines of one text shard, ends included, without a byte order mark.

    Attributes:
        offset_bytes: Where the next line starts in the decompressed file.
        at_end: Whether the end of the file was asked for and met.
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
        # Skipping asks for the same lines as indexing did, so that a damaged archive breaks at the
        # same record: how much of it can be recovered depends on the sizes of the reads.
        # A larger buffer on top would fail as a whole and lose what comes before the break.
        # gzip asks for a few bytes at a time, each a request where the file is on an object store.
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
        self._file.close()

    def next_line(self) -> bytes:
        """The next line with its end; b"" at the end of the file.

        Raises:
            LongLineError: The line exceeds MAX_RECORD_BYTES; it is passed over.
            DamageError: The storage or the archive gives no more bytes, or the file is no text.
        """
        try:
            line = self._stream.readline(MAX_RECORD_BYTES)
            first = self.offset_bytes == 0
            if first:
                _check_start(line)
            self.offset_bytes += len(line)
            if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
                self._pass_over()
                raise LongLineError(line[:_HEAD_BYTES])
        except (*STORAGE_ERRORS, EOFError, zlib.error) as error:
            raise DamageError(one_line(error)) from error
        self.at_end = not line
        return line.removeprefix(BOM) if first else line

    def _pass_over(self) -> None:
        """Move to the end of the current line."""
        while rest := self._stream.readline(_BUFFER_BYTES):
            self.offset_bytes += len(rest)
            if rest.endswith(b"\n"):
                return


def _check_start(line: bytes) -> None:
    """Raise DamageError for a file whose name says text and whose first bytes say otherwise."""
    for start, problem in _FOREIGN.items():
        if line.startswith(start):
            raise DamageError(problem)
    # Without a byte order mark, UTF-16 shows in its zeros: every other byte of Latin letters.
    zeros = [byte == 0 for byte in line[:4]]
    if zeros in ([False, True, False, True], [True, False, True, False]):
        raise DamageError("the file is UTF-16; only UTF-8 is read")
