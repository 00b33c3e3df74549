"""Reads units of a text shard, whatever the syntax of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import pyarrow as pa

from sentiment.source.blocks import Reject, Rows
from sentiment.source.formats.lines import CorruptError, DamageError, Lines
from sentiment.source.shards import Shard, Unit

Record = TypeVar("Record")


class _GoodRows:
    """Collects good rows, one by one or in tables, in order."""

    def __init__(self, columns: pa.Schema) -> None:
        self._columns = columns
        self._tables: list[pa.Table] = []
        self._values: list[list[Any]] = [[] for _ in columns]

    def add(self, values: Sequence[Any]) -> None:
        """Add a row: one value per column."""
        for column, value in zip(self._values, values, strict=True):
            column.append(value)

    def add_table(self, table: pa.Table) -> None:
        """Add rows of the same columns."""
        self._flush()
        self._tables.append(table)

    def table(self) -> pa.Table:
        """Return them all, each column in one piece."""
        self._flush()
        if len(self._tables) == 1:
            return self._tables[0]
        return pa.concat_tables(self._tables or [self._columns.empty_table()]).combine_chunks()

    def _flush(self) -> None:
        if self._values and self._values[0]:
            types = self._columns.types
            arrays = [
                pa.array(column, kind) for column, kind in zip(self._values, types, strict=True)
            ]
            self._tables.append(pa.Table.from_arrays(arrays, schema=self._columns))
            self._values = [[] for _ in types]


class TextReader(Generic[Record]):
    """Reads units of one shard.

    A unit that starts where the last one ended is read on from there: a compressed file can be
    entered only at its start, so opening it for every unit would decompress it again and again.
    """

    def __init__(
        self,
        shard: Shard,
        columns: pa.Schema,
        parse: Callable[[Lines], Iterator[Record | pa.Table]],
        convert: Callable[[int, Record], Sequence[Any] | Reject],
    ) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            shard: The shard.
            columns: Source columns as indexed.
            parse: Yields the records of a file from its next line on; or tables of many, which
                are rows as they are.
            convert: Returns the values of a record, one per column, or its reject. Its first
                argument is the row number.
        """
        self._shard = shard
        self._columns = columns
        self._parse = parse
        self._convert = convert
        self._lines: Lines | None = None
        self._records: Iterator[Record | pa.Table] = iter(())
        self._left: pa.Table | None = None  # rows of a table behind the last unit
        self._next_row = -1

    def close(self) -> None:
        """Close the file; the next unit opens it again."""
        self._next_row = -1
        self._records = iter(())
        self._left = None
        if self._lines is not None:
            self._lines.close()
            self._lines = None

    def read(self, unit: Unit, max_bytes: int | None = None) -> Rows:
        """Read the rows of a unit, which starts at a cut of the index.

        Args:
            unit: Rows of the shard.
            max_bytes: Ignored: units of text are cut where they are planned.

        Returns:
            Good rows and rejects, which together are the rows of the unit.
        """
        del max_bytes
        good = _GoodRows(self._columns)
        rejects: list[Reject] = []
        row = unit.first_row
        ending = "the file ends before the rows that were indexed"
        try:
            if row != self._next_row:
                self._open(unit)
            self._next_row = -1  # until the unit has come to its end
            while row <= unit.last_row:
                record = next(self._records, None) if self._left is None else self._left
                self._left = None
                if record is None:
                    break
                if isinstance(record, pa.Table):
                    count = min(record.num_rows, unit.last_row - row + 1)
                    good.add_table(record.slice(0, count))
                    row += count
                    if count < record.num_rows:
                        self._left = record.slice(count)
                    continue
                found = self._convert(row, record)
                if isinstance(found, Reject):
                    rejects.append(found)
                else:
                    good.add(found)
                row += 1
            else:
                self._next_row = row
        except (CorruptError, DamageError) as error:
            ending = str(error)
        numbers = _all_but(rejects, range(unit.first_row, row))
        if row <= unit.last_row:
            rejects.append(Reject(row, unit.last_row, "unreadable_rows", ending))
            self.close()
        return Rows(good.table(), numbers, rejects)

    def _open(self, unit: Unit) -> None:
        assert unit.offset_bytes is not None, f"{unit.unit_id} has no offset"
        self.close()
        self._lines = Lines(self._shard, unit.offset_bytes)
        self._records = self._parse(self._lines)


def _all_but(rejects: Sequence[Reject], rows: range) -> Sequence[int]:
    """Return the numbers of the good rows among rows that were read one by one."""
    if not rejects:
        return rows
    bad = {reject.first_row for reject in rejects}
    return [row for row in rows if row not in bad]
