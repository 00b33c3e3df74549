"""Parquet shards: indexed from the footer, read row group by row group.

Columns keep the types that Parquet stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.source.blocks import Reject, Rows, raw_text
from sentiment.source.lines import MAX_RECORD_BYTES
from sentiment.source.shards import Damage, Shard, ShardIndex, Unit
from sentiment.storage import STORAGE_ERRORS, one_line, open_filesystem

_BATCH_ROWS = 4096
_BUFFER_BYTES = 1024 * 1024
# A footer may claim any number of rows, and every few thousand become a unit of the plan. Even one
# text a thousand times over takes more bytes than this allows for.
_MAX_ROWS_PER_BYTE = 10_000


@dataclass
class _Found:
    """What a row group gave so far."""

    tables: list[pa.Table] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


@contextmanager
def _open(shard: Shard) -> Iterator[Any]:
    """The shard as a `pq.ParquetFile` that streams and never holds a whole row group in memory."""
    filesystem, path = open_filesystem(shard.uri)
    with filesystem.open_input_file(path) as file:
        with _foreign_code():
            opened = pq.ParquetFile(
                file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
        yield opened


@contextmanager
def _foreign_code() -> Iterator[None]:
    """Errors of reading as Arrow's.

    A file can name types that other libraries registered with Arrow: their code runs while a schema
    is read, and raises what it likes. pyarrow itself raises UnicodeDecodeError for column names.
    """
    try:
        yield
    except (*STORAGE_ERRORS, MemoryError):
        raise
    except Exception as error:
        raise pa.ArrowInvalid(f"its types cannot be decoded ({type(error).__name__})") from error


def index_parquet(shard: Shard) -> ShardIndex:
    """Rows, columns and row-group starts of a Parquet shard, from its footer alone.

    Args:
        shard: The shard.

    Returns:
        Its index. Columns are nullable, since a row that cannot be read is null in all of them,
        and carry no file metadata (pandas describes there an index that a part no longer has).
    """
    try:
        with _open(shard) as file, _foreign_code():
            columns = pa.schema([_stored(field).with_nullable(True) for field in file.schema_arrow])
            sizes = _group_sizes(file.metadata, shard.size_bytes)
    except STORAGE_ERRORS as error:
        damage = Damage(-1, "unreadable_file", one_line(error))
        return ShardIndex(shard, 0, None, damage=damage)
    cuts: list[tuple[int, int | None]] = []
    start = 0
    for size in sizes:
        if size:
            cuts.append((start, None))
        start += size
    return ShardIndex(shard, start, columns, tuple(cuts) or ((0, None),))


def _group_sizes(metadata: Any, size_bytes: int) -> list[int]:
    """Rows of each row group.

    Raises:
        pa.ArrowInvalid: The footer contradicts itself or the size of the file.
    """
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(sizes) != metadata.num_rows or min(sizes, default=0) < 0:
        raise pa.ArrowInvalid("the row counts in its footer contradict each other")
    if metadata.num_rows > size_bytes * _MAX_ROWS_PER_BYTE:
        raise pa.ArrowInvalid(f"its footer claims {metadata.num_rows} rows in {size_bytes} bytes")
    return sizes


def _stored(field: pa.Field) -> pa.Field:
    """A field with the type that Parquet stores, without what Arrow notes beside it.

    Types that other libraries registered with Arrow become what they are made of: a file can name
    any of them, Ray's pickled objects among them, and their code would run on its data as soon as a
    row is looked at. A note that names such a type brings it back in the next process, so it goes.
    Views become plain strings, since Arrow cannot filter them.
    """
    notes = {
        key: value
        for key, value in (field.metadata or {}).items()
        if not key.startswith(b"ARROW:extension:")
    }
    return pa.field(field.name, _stored_type(field.type), field.nullable, notes or None)


def _stored_type(kind: pa.DataType) -> pa.DataType:
    types = pa.types
    if isinstance(kind, pa.ExtensionType):  # Arrow's own, such as uuid, are not of this class
        return _stored_type(kind.storage_type)
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _stored_type(kind.value_type), kind.ordered)
    if types.is_struct(kind):
        return pa.struct([_stored(kind.field(i)) for i in range(kind.num_fields)])
    if types.is_map(kind):
        return pa.map_(_stored(kind.key_field), _stored(kind.item_field), kind.keys_sorted)
    if types.is_fixed_size_list(kind):
        return pa.list_(_stored(kind.value_field), kind.list_size)
    if types.is_list(kind):
        return pa.list_(_stored(kind.value_field))
    if types.is_large_list(kind):
        return pa.large_list(_stored(kind.value_field))
    is_view = types.is_list_view(kind) or types.is_large_list_view(kind)
    if is_view and _stored(kind.value_field) != kind.value_field:
        raise pa.ArrowNotImplementedError(f"{kind} is a type that Arrow cannot convert")
    return kind


def read_parquet(unit: Unit, columns: pa.Schema, text_column: str) -> Rows:
    """Read the rows of a unit; a damaged row group costs the unit its rows of that group only.

    Args:
        unit: Rows of a Parquet shard.
        columns: Source columns as indexed.
        text_column: The column to score: bytes in it that are not UTF-8 reject the row.
    """
    found = _Found()
    try:
        with _open(unit.shard) as file:
            for group, start, size in _groups(file.metadata):
                first, last = max(unit.first_row, start), min(unit.last_row, start + size - 1)
                if first > last:
                    continue
                try:
                    part = _read_group(file, group, (first, last, start), columns, text_column)
                except STORAGE_ERRORS as error:
                    detail = f"row group {group}: {one_line(error)}"
                    part = _Found(rejects=[Reject(first, last, "unreadable_rows", detail)])
                found.tables += part.tables
                found.numbers += part.numbers
                found.rejects += part.rejects
    except STORAGE_ERRORS as error:
        # The footer was readable when the shard was indexed.
        reject = Reject(unit.first_row, unit.last_row, "unreadable_file", one_line(error))
        return Rows(columns.empty_table(), (), (reject,))
    good = pa.concat_tables([columns.empty_table(), *found.tables])
    return Rows(good, found.numbers, found.rejects)


def _groups(metadata: Any) -> Iterator[tuple[int, int, int]]:
    """Number, first row and size of each row group."""
    start = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        yield group, start, size
        start += size


def _read_group(
    file: Any, group: int, span: tuple[int, int, int], columns: pa.Schema, text_column: str
) -> _Found:
    """Read part of one row group.

    Args:
        file: The open `pq.ParquetFile`.
        group: Row group number.
        span: First and last row to read, and the first row of the group.
        columns: Source columns as indexed.
        text_column: The column to score.

    Raises:
        OSError: The group is damaged.
        pa.ArrowException: The group is damaged.
    """
    first, last, row = span
    found = _Found()
    for batch in _batches(file, group):
        skip = max(first - row, 0)
        table = pa.Table.from_batches([batch]).select(columns.names)
        wanted = table.slice(skip, max(last - row - skip + 1, 0))
        if wanted.num_rows:
            _take(found, wanted.cast(columns), row + skip, text_column)
        row += batch.num_rows
        if row > last:
            break
    if row <= last:
        raise pa.ArrowInvalid("it ends before the rows its footer promises")
    return found


def _batches(file: Any, group: int) -> Iterator[pa.RecordBatch]:
    with _foreign_code():
        # One thread: Ray runs as many readers as there are cores.
        yield from file.iter_batches(_BATCH_ROWS, row_groups=[group], use_threads=False)


def _take(found: _Found, table: pa.Table, first: int, text_column: str) -> None:
    """Add consecutive rows, after a look at what Parquet readers do not check: UTF-8."""
    bad: dict[int, Reject] = {}
    for index, name in enumerate(table.column_names):
        column = table.column(index)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            column = column.combine_chunks()
            if not pa.types.is_nested(column.type):
                table = table.set_column(index, table.field(index), _shown(column))
                if name != text_column:
                    continue
            for row, raw in _undecodable(column, name == text_column):
                reason = "undecodable_text" if name == text_column else "malformed_record"
                detail = f"column {name!r} holds bytes that are not UTF-8"
                bad[first + row] = Reject(first + row, first + row, reason, detail, raw)
        if name == text_column:
            for row in _too_long(table.column(index)):
                detail = f"column {name!r} holds more than {MAX_RECORD_BYTES} bytes"
                bad[first + row] = Reject(first + row, first + row, "malformed_record", detail)
    numbers = [row for row in range(first, first + table.num_rows) if row not in bad]
    if bad:
        table = _without(table, sorted(row - first for row in bad))
    found.tables.append(table)
    found.numbers += numbers
    found.rejects += [bad[row] for row in sorted(bad)]


def _too_long(column: pa.ChunkedArray) -> list[int]:
    """Rows with a text that no line of a text shard may hold either."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if not is_text and not (
        pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    ):
        return []
    too_long = pc.greater(pc.binary_length(column), MAX_RECORD_BYTES)
    return list(pc.indices_nonzero(too_long).to_pylist())


def _without(table: pa.Table, rows: list[int]) -> pa.Table:
    """The table less some rows; slices, because `filter` does not know every Parquet type."""
    starts = [0, *(row + 1 for row in rows)]
    ends = [*rows, table.num_rows]
    return pa.concat_tables(
        [table.slice(start, end - start) for start, end in zip(starts, ends, strict=True)]
    )


def _shown(column: pa.Array) -> pa.Array:
    """A column of strings with bad bytes as `\\xNN`."""
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(
            column.indices, _shown(column.dictionary), ordered=column.type.ordered
        )
    values = column.cast(pa.large_binary()).to_pylist()
    shown = [None if v is None else v.decode("utf-8", "backslashreplace") for v in values]
    return pa.array(shown, column.type)


def _undecodable(column: pa.Array, is_text: bool) -> Iterator[tuple[int, str | None]]:
    """Rows whose value is not UTF-8, and the bytes to show of it.

    Raises:
        pa.ArrowInvalid: The column is invalid in some other way: the row group is damaged.
    """
    rows: list[tuple[int, str | None]] = []
    if is_text and not pa.types.is_nested(column.type):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
            if value is not None and value.decode("utf-8", "backslashreplace").encode() != value:
                rows.append((row, raw_text(value)))
    else:
        for row, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError:
                rows.append((row, None))
            except ValueError:
                continue  # a date that Python cannot hold is still a value
    if not rows:
        raise pa.ArrowInvalid("its values are inconsistent")
    yield from rows
