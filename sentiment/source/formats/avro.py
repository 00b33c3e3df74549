"""Reads Avro files: blocks of records, each behind its size and before a marker.

fastavro decodes the records. The blocks are found here, because a damaged one must not cost those
behind it.

Source: https://avro.apache.org/docs/1.12.0/specification/
"""

from __future__ import annotations

import bz2
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import fastavro
import pyarrow as pa

from sentiment.source.formats.arrow_errors import as_arrow_errors
from sentiment.source.formats.avro_types import AvroTypes
from sentiment.source.formats.parquet import MAX_ROWS_PER_BYTE

_HEADER: Final = fastavro.parse_schema(
    {
        "type": "record",
        "name": "org.apache.avro.file.Header",
        "fields": [
            {"name": "magic", "type": {"type": "fixed", "name": "Magic", "size": 4}},
            {"name": "meta", "type": {"type": "map", "values": "bytes"}},
            {"name": "sync", "type": {"type": "fixed", "name": "Sync", "size": 16}},
        ],
    }
)
# Sizes of blocks are a few megabytes. A damaged one may claim anything.
_MAX_BLOCK_BYTES = 1024 * 1024 * 1024
_MAX_VARINT_BYTES = 10
_PIECE_BYTES = 1024 * 1024


class AvroFile:
    """An Avro file; a group is a block.

    Attributes:
        schema: Columns and types. A union of several types that are not null is text: a string as
            it is, any other value as JSON.
        group_rows: Rows of each block.
        group_name: What a group is called.
        damage: What is wrong behind the last block; None if nothing is.
        wide_columns: Columns of 64-bit integers: the file does not tell how large they are.
    """

    group_name = "block"

    def __init__(self, file: Any, size_bytes: int) -> None:
        """Read the header, and find the blocks.

        Args:
            file: The file, seekable.
            size_bytes: Its size.

        Raises:
            pa.ArrowException: It is no Avro.
        """
        self._file = io.BufferedReader(file, _PIECE_BYTES)
        self._size_bytes = size_bytes
        with as_arrow_errors("it"):
            header: Any = fastavro.schemaless_reader(self._file, _HEADER, None)
            if header["magic"] != b"Obj\x01":
                raise pa.ArrowInvalid("it does not begin as Avro does")
            declared = json.loads(header["meta"]["avro.schema"])
            if not isinstance(declared, dict) or declared.get("type") != "record":
                raise pa.ArrowInvalid("its values are no records")
            types = AvroTypes()
            self._columns = {
                one["name"]: types.of(one["type"], declared.get("namespace", ""))
                for one in declared["fields"]
            }
            stored = _without_logical_types(declared)
            for one in stored["fields"]:
                one["type"] = _text_as_bytes(one["type"])
            self._stored = fastavro.parse_schema(stored)
            self._unpack = _codec(header["meta"].get("avro.codec", b"null").decode())
        self.schema = pa.schema([pa.field(name, one.arrow) for name, one in self._columns.items()])
        self.wide_columns = frozenset(
            name for name, one in self._columns.items() if pa.types.is_int64(one.arrow)
        )
        self._sync = header["sync"]
        self._blocks: list[tuple[int, int]] = []
        self.group_rows: list[int] = []
        self.damage = self._find_blocks()

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a block, at most so many at once."""
        with as_arrow_errors("it"):
            start, size = self._blocks[group]
            self._file.seek(start)
            block = io.BytesIO(self._unpack(_exactly(self._file, size)))
        left = self.group_rows[group]
        while left:
            with as_arrow_errors("it"):
                read: list[Any] = [
                    fastavro.schemaless_reader(block, self._stored, None)
                    for _ in range(min(left, rows))
                ]
                arrays = [
                    _array([one(record[name]) for record in read], one.arrow)
                    for name, one in self._columns.items()
                ]
                batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
            left -= len(read)
            yield batch
        if block.read(1):
            raise pa.ArrowInvalid("a block is longer than its records")

    def _find_blocks(self) -> str | None:
        """Note where the blocks are.

        Returns:
            What is wrong where they end; None if that is the end of the file.
        """
        while self._file.tell() < self._size_bytes:
            try:
                count, size = _varint(self._file), _varint(self._file)
                start = self._file.tell()
                if not 0 <= count <= max(size, 1) * MAX_ROWS_PER_BYTE:
                    return f"a block claims {count} rows in {size} bytes"
                if not 0 <= size <= min(_MAX_BLOCK_BYTES, self._size_bytes - start):
                    return "a block has no size that may be true"
                self._file.seek(start + size)
                if _exactly(self._file, len(self._sync)) != self._sync:
                    return "the marker behind a block is damaged"
            except EOFError:
                return "it ends within a block"
            self._blocks.append((start, size))
            self.group_rows.append(count)
        return None


def _exactly(file: IO[bytes], count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _varint(file: IO[bytes]) -> int:
    """Read a number with its sign in the lowest bit."""
    number = _unsigned(file)
    return (number >> 1) ^ -(number & 1)


def _unsigned(file: IO[bytes]) -> int:
    """Read a number: seven bits in each byte, the least first."""
    number = 0
    for shift in range(_MAX_VARINT_BYTES):
        byte = _exactly(file, 1)[0]
        number |= (byte & 127) << (7 * shift)
        if byte < 128:
            break
    return number


def _codec(name: str) -> Callable[[bytes], bytes]:
    codecs: dict[str, Callable[[bytes], bytes]] = {
        "null": lambda data: data,
        "deflate": lambda data: zlib.decompress(data, -zlib.MAX_WBITS),
        "bzip2": bz2.decompress,
        "xz": lzma.decompress,
        "snappy": _snappy,
        "zstandard": lambda data: pa.CompressedInputStream(io.BytesIO(data), "zstd").read(),
    }
    if name not in codecs:
        raise pa.ArrowInvalid(f"it is compressed with {name[:20]!r}, which is not read")
    return codecs[name]


def _snappy(data: bytes) -> bytes:
    """Unpack a block of Snappy: its size, its bytes, and a checksum of four bytes."""
    size = _unsigned(io.BytesIO(data))
    if size > _MAX_BLOCK_BYTES:
        raise pa.ArrowInvalid("a block has no size that may be true")
    unpacked = pa.decompress(data[:-4], size, codec="snappy", asbytes=True)
    if zlib.crc32(unpacked) != int.from_bytes(data[-4:], "big"):
        raise pa.ArrowInvalid("the checksum of a block is wrong")
    return bytes(unpacked)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if not pa.types.is_string(kind) or not any(isinstance(value, bytes) for value in values):
        return pa.array(values, kind)
    return pa.array(values, pa.binary()).view(kind)


def _text_as_bytes(stored: Any) -> Any:
    """Return the type of a column with bytes in the place of text.

    Where fastavro decodes text, one value that is not UTF-8 costs the whole block.
    """
    if isinstance(stored, dict) and stored["type"] == "string":
        return "bytes"
    if isinstance(stored, list) and len(stored) == 2 and "null" in stored:
        return [_text_as_bytes(one) for one in stored]
    return "bytes" if stored == "string" else stored


def _without_logical_types(schema: Any) -> Any:
    """Return a schema with the types that are stored: then fastavro returns plain numbers."""
    if isinstance(schema, list):
        return [_without_logical_types(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    nested = ("type", "items", "values", "fields")
    return {
        key: _without_logical_types(value) if key in nested else value
        for key, value in schema.items()
        if key != "logicalType"
    }
