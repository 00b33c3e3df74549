"""Reads shards whose records lie in binary groups: Parquet, ORC and Avro.

A group is what can be read on its own: a row group, a stripe, a block. A damaged group costs only
its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

import pyarrow as pa

from sentiment.block import empty_table
from sentiment.source.blocks import Reject, Rows
from sentiment.source.formats.arrow_errors import as_arrow_errors
from sentiment.source.formats.avro import AvroFile
from sentiment.source.formats.binary_text import checked_rows
from sentiment.source.formats.compression import UNPACK_ERRORS, open_seekable
from sentiment.source.formats.orc import OrcFile
from sentiment.source.formats.parquet import ParquetFile
from sentiment.source.formats.parquet_types import storage_field
from sentiment.source.options import ReadOptions
from sentiment.source.shards import Damage, Shard, ShardIndex, Unit
from sentiment.storage import one_line

# Rows that are decoded at once: in memory, each may be far larger than its share of the file.
_BATCH_ROWS = 1024


class _GroupedFile(Protocol):
    """What each format has.

    Attributes:
        schema: Columns and types.
        group_rows: Rows of each group.
        group_name: What a group is called.
        damage: What is wrong behind the last group; None if nothing is.
        wide_columns: Columns of 64-bit integers that a float of 64 bits may not hold.
    """

    schema: pa.Schema
    group_rows: list[int]
    group_name: str
    damage: str | None
    wide_columns: frozenset[str]

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a group, at most so many at once."""
        ...


_FILES: dict[str, Callable[[Any, int], _GroupedFile]] = {
    "parquet": ParquetFile,
    "orc": OrcFile,
    "avro": AvroFile,
}


@dataclass
class _ReadRows:
    """Rows, rejects and excluded rows so far, and the bytes of memory that the rows take."""

    tables: list[pa.Table] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    excluded: list[tuple[int, int]] = field(default_factory=list)
    bytes: int = 0


@contextmanager
def _open(shard: Shard) -> Iterator[_GroupedFile]:
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    with open_seekable(shard) as (file, size_bytes), as_arrow_errors("its types"):
        yield _FILES[shard.layout.format](file, size_bytes)


def index_groups(shard: Shard) -> ShardIndex:
    """Index a shard from its footer or the headers of its blocks: rows, columns, starts of groups.

    Args:
        shard: The shard.

    Returns:
        Its index. All columns are nullable, because a row that cannot be read is null in each of
        them. They carry no metadata of the file: that of pandas describes the index of the whole
        table, which a part of it does not have.
    """
    try:
        with _open(shard) as file:
            columns = pa.schema([storage_field(field).with_nullable(True) for field in file.schema])
            sizes, problem, wide = file.group_rows, file.damage, file.wide_columns
    except UNPACK_ERRORS as error:
        damage = Damage(-1, "unreadable_file", one_line(error))
        return ShardIndex(shard, 0, None, damage=damage)
    cuts: list[tuple[int, int | None]] = []
    start = 0
    for size in sizes:
        if size:
            cuts.append((start, None))
        start += size
    end = None if problem is None else Damage(start, "unreadable_rows", problem)
    return ShardIndex(shard, start, columns, tuple(cuts) or ((0, None),), end, wide_columns=wide)


class GroupReader:
    """Reads units of a shard; goes on where the last one ended, if the next starts there.

    A group can be entered at its start only. Of a damaged group only its own rows are rejected.
    """

    def __init__(self, shard: Shard, columns: pa.Schema, options: ReadOptions) -> None:
        """Prepare to read.

        Args:
            shard: A shard of a binary format.
            columns: Source columns as indexed.
            options: Name the text columns: bytes in them that are not UTF-8 reject the row. And
                they say which rows are wanted: a group without one is not read.
        """
        self._shard = shard
        self._columns = columns
        self._texts = options.texts.of(columns.names)
        self._selection = options.selection
        self._opened = ExitStack()
        self._file: _GroupedFile | None = None
        self._group: _GroupCursor | None = None

    def close(self) -> None:
        """Close the file; the next unit opens it again."""
        self._file = self._group = None
        self._opened.close()

    def read(self, unit: Unit, max_bytes: int | None = None) -> Rows:
        """Read the rows of a unit.

        Args:
            unit: Rows of the shard.
            max_bytes: Stop before the rows take more memory than this, but read at least some. In a
                file, a long text that is repeated takes its space once.

        Returns:
            Good rows and rejects, which together are the first rows of the unit, or all of them.
        """
        read = _ReadRows()
        try:
            if self._file is None:
                self._file = self._opened.enter_context(_open(self._shard))
            ends = accumulate(self._file.group_rows)
            for group, (size, end) in enumerate(zip(self._file.group_rows, ends, strict=True)):
                start = end - size
                first, last = max(unit.first_row, start), min(unit.last_row, end - 1)
                if first > last:
                    continue
                if self._selection.where is not None and self._is_excluded(self._file, group):
                    read.excluded.append((first, last))
                    continue
                done = len(read.tables), len(read.numbers), len(read.rejects)
                try:
                    if not self._read_group(read, group, (first, last, start), max_bytes):
                        break
                except UNPACK_ERRORS as error:
                    self._group = None
                    del read.tables[done[0] :], read.numbers[done[1] :], read.rejects[done[2] :]
                    detail = f"{self._file.group_name} {group}: {one_line(error)}"
                    read.rejects.append(Reject(first, last, "unreadable_rows", detail))
        except UNPACK_ERRORS as error:
            # The footer was readable when the shard was indexed, and is not now.
            self.close()
            reject = Reject(unit.first_row, unit.last_row, "unreadable_file", one_line(error))
            return Rows(empty_table(self._columns), (), (reject,))
        good = pa.concat_tables([empty_table(self._columns), *read.tables])
        return Rows(good, read.numbers, read.rejects, read.excluded)

    def _is_excluded(self, file: _GroupedFile, group: int) -> bool:
        """Whether statistics tell that no row of a group is wanted."""
        found = (
            file.statistics(group, self._selection.columns())
            if isinstance(file, ParquetFile)
            else {}
        )
        return self._selection.excludes_group(self._shard.folder, found)

    def _read_group(
        self, read: _ReadRows, group: int, span: tuple[int, int, int], max_bytes: int | None
    ) -> bool:
        """Read part of one group.

        Args:
            read: Where to add the rows.
            group: Its number.
            span: First and last row to read, and the first row of the group.
            max_bytes: Stop when the rows take more memory than this.

        Returns:
            Whether all rows of the part were read.

        Raises:
            UNPACK_ERRORS: The group is damaged.
        """
        assert self._file is not None, "the caller opens it"
        first, last, start = span
        if self._group is None or self._group.number != group or self._group.row > first:
            self._group = _GroupCursor(self._file, group, start)
        cursor = self._group
        cursor.skip_to(first)
        while cursor.row <= last:
            row = cursor.row
            if max_bytes is not None and read.bytes >= max_bytes:
                return False
            table = cursor.take(last - row + 1, max_bytes).select(self._columns.names)
            read.bytes += table.nbytes
            if table.schema != self._columns:
                table = table.cast(self._columns)
            checked = checked_rows(table, row, self._texts)
            read.tables.append(checked.table)
            read.numbers += checked.numbers
            read.rejects += checked.rejects
        return True


class _GroupCursor:
    """The rows of one group, from its start on.

    Attributes:
        number: Number of the group.
        row: Number in the shard of the next row.
    """

    def __init__(self, file: _GroupedFile, number: int, start: int) -> None:
        self.number = number
        self.row = start
        self._batches = file.batches(number, _BATCH_ROWS)
        self._rest: pa.Table | None = None

    def skip_to(self, row: int) -> None:
        """Pass over the rows before a row."""
        while self.row < row:
            self.take(row - self.row)

    def take(self, rows: int, max_bytes: int | None = None) -> pa.Table:
        """Return the next rows, from 1 to as many as asked for.

        Args:
            rows: Most rows.
            max_bytes: Most bytes of memory of several rows.

        Raises:
            pa.ArrowInvalid: The group ends early.
        """
        while self._rest is None or not self._rest.num_rows:
            batch = next(self._batches, None)
            if batch is None:
                raise pa.ArrowInvalid("it ends before the rows it promises")
            self._rest = pa.Table.from_batches([batch])
        taken = self._rest.slice(0, rows)
        while max_bytes is not None and taken.nbytes > max_bytes and taken.num_rows > 1:
            taken = taken.slice(0, taken.num_rows // 2)
        self._rest = self._rest.slice(taken.num_rows)
        self.row += taken.num_rows
        return taken
