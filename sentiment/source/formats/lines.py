"""Reads the lines of a text shard, plain or compressed, from a byte offset on.

All ways in which the bytes can end early, or turn out not to be text, raise one error.
"""

from __future__ import annotations

from typing import Final, Self

from sentiment.source.formats.compression import UNPACK_ERRORS, is_corruption, open_unpacked
from sentiment.source.shards import Shard
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

# The largest record. A file without line ends must not fill the memory, and the tokenizer needs
# about 100 bytes of memory for each byte of text.
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"

_HEAD_BYTES = 128 * 1024


class DamageError(Exception):
    """The rest of the file cannot be read. Always caught within this folder."""


class CorruptError(Exception):
    """The file was altered, so none of its rows is to be trusted. Caught within this folder."""


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
        offset_bytes: Where the next line starts in the unpacked file.
        at_end: Whether the end of the file was reached.
        in_line: Whether the last piece was as large as it may be, and ended within a line.
    """

    def __init__(self, shard: Shard, offset_bytes: int = 0) -> None:
        """Open a shard.

        Args:
            shard: A text shard whose layout is known.
            offset_bytes: Start of a record in the unpacked file.

        Raises:
            DamageError: The file cannot be opened or ends before the offset.
        """
        self.offset_bytes = 0
        self.at_end = self.in_line = False
        # Bytes that were looked at, how many of them are read, and what came instead of more.
        self._ahead, self._used = b"", 0
        self._ahead_error: BaseException | None = None
        filesystem, path = open_filesystem(shard.file_uri)
        try:
            self._file = filesystem.open_input_file(path)
        except STORAGE_ERRORS as error:
            raise DamageError(one_line(error)) from error
        try:
            self._stream = open_unpacked(self._file, shard)
            if not shard.has_one_entry:
                self._stream.seek(offset_bytes)
                self.offset_bytes = offset_bytes
            if self.offset_bytes == 0:
                self._start()
            while self.offset_bytes < offset_bytes and not self.at_end:
                self.next_piece(offset_bytes - self.offset_bytes)
        except UNPACK_ERRORS as error:
            self._file.close()
            raise DamageError(one_line(error)) from error
        except BaseException:
            self._file.close()
            raise

    def _start(self) -> None:
        start = self._stream.peek(len(BOM))
        if start.startswith(BOM):
            self._stream.read(len(BOM))
            self.offset_bytes = len(BOM)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def next_line(self) -> bytes:
        """Return the next line with its line end; b"" at the end of the file.

        Raises:
            LongLineError: The line exceeds MAX_RECORD_BYTES; it is skipped.
            CorruptError: What was read so far may be wrong.
            DamageError: No more bytes can be read or unpacked.
        """
        line = self.next_piece(MAX_RECORD_BYTES, stops_at_line=True)
        if self.in_line:
            self.skip_line()
            raise LongLineError(line[:_HEAD_BYTES])
        return line

    def next_piece(self, most_bytes: int, *, stops_at_line: bool = False) -> bytes:
        """Return the next bytes; b"" at the end of the file.

        Args:
            most_bytes: Most bytes to return. There may be fewer.
            stops_at_line: Whether to go on to the end of the line, and not beyond.

        Raises:
            CorruptError: What was read so far may be wrong.
            DamageError: No more bytes can be read or unpacked.
        """
        try:
            piece = self._next_bytes(most_bytes, stops_at_line)
        except UNPACK_ERRORS as error:
            if is_corruption(error):
                raise CorruptError(f"the archive is corrupt: {one_line(error)}") from error
            raise DamageError(one_line(error)) from error
        self.offset_bytes += len(piece)
        self.at_end = not piece
        self.in_line = len(piece) == most_bytes and not piece.endswith(b"\n")
        return piece

    def _next_bytes(self, most_bytes: int, stops_at_line: bool) -> bytes:
        """Return the next bytes, see `next_piece`; first those that were looked at."""
        piece = b""
        if self._used < len(self._ahead):
            end = self._used + most_bytes
            if stops_at_line and (line_end := self._ahead.find(b"\n", self._used, end)) >= 0:
                end = line_end + 1
            piece = self._ahead[self._used : end]
            if not stops_at_line or len(piece) == most_bytes or piece.endswith(b"\n"):
                self._used += len(piece)
                return piece
        if self._ahead_error is not None:
            raise self._ahead_error
        self._ahead, self._used = b"", 0
        read = self._stream.readline if stops_at_line else self._stream.read1
        return piece + read(most_bytes - len(piece))

    def look_ahead(self, least_bytes: int) -> bytes:
        """Return the next bytes without reading them.

        An error of the storage or of unpacking is kept until all bytes before it are read.

        Args:
            least_bytes: Bytes to return. There are fewer where the file ends, and where a record
                could be too large; there may be more.
        """
        pieces = [self._ahead[self._used :]]
        missing = min(least_bytes, MAX_RECORD_BYTES) - len(pieces[0])
        try:
            while missing > 0 and self._ahead_error is None:
                piece = self._stream.read1(missing)
                if not piece:
                    break
                pieces.append(piece)
                missing -= len(piece)
        except UNPACK_ERRORS as error:
            self._ahead_error = error
        self._ahead, self._used = b"".join(pieces), 0
        return self._ahead

    def skip(self, count_bytes: int) -> None:
        """Read bytes that were looked at, up to the end of a line."""
        self._used += count_bytes
        self.offset_bytes += count_bytes
        self.in_line = False

    def skip_line(self) -> None:
        """Read to the end of the current line.

        Raises:
            DamageError: No more bytes can be read or unpacked.
        """
        while rest := self.next_piece(MAX_RECORD_BYTES, stops_at_line=True):
            if rest.endswith(b"\n"):
                return
