"""Reads units of a text shard, whatever the syntax of its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import pyarrow as pa

from sentiment.source.blocks import Reject, Rows
from sentiment.source.formats.lines import CorruptError, DamageError, Lines
from sentiment.source.shards import Shard, Unit

Record = TypeVar("Record")


class TextReader(Generic[Record]):
    """Reads units of one shard.

    A unit that starts where the last one ended is read on from there: a compressed file can be
    entered only at its start, so opening it for every unit would decompress it again and again.
    """

    def __init__(
        self,
        shard: Shard,
        columns: pa.Schema,
        parse: Callable[[Lines], Iterator[Record]],
        convert: Callable[[int, Record], Sequence[Any] | Reject],
    ) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            shard: The shard.
            columns: Source columns as indexed.
            parse: Yields the records of a file from its next line on.
            convert: Returns the values of a record, one per column, or its reject. Its first
                argument is the row number.
        """
        self._shard = shard
        self._columns = columns
        self._parse = parse
        self._convert = convert
        self._lines: Lines | None = None
        self._records: Iterator[Record] = iter(())
        self._next_row = -1

    def close(self) -> None:
        """Close the file; the next unit opens it again."""
        self._next_row = -1
        self._records = iter(())
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
        values: list[list[Any]] = [[] for _ in self._columns]
        numbers: list[int] = []
        rejects: list[Reject] = []
        row = unit.first_row
        ending = "the file ends before the rows that were indexed"
        try:
            if row != self._next_row:
                self._open(unit)
            self._next_row = -1  # until the unit has come to its end
            for record in self._records:
                found = self._convert(row, record)
                if isinstance(found, Reject):
                    rejects.append(found)
                else:
                    numbers.append(row)
                    for column, value in zip(values, found, strict=True):
                        column.append(value)
                row += 1
                if row > unit.last_row:
                    self._next_row = row
                    break
        except (CorruptError, DamageError) as error:
            ending = str(error)
        if row <= unit.last_row:
            rejects.append(Reject(row, unit.last_row, "unreadable_rows", ending))
            self.close()
        types = self._columns.types
        arrays = [pa.array(column, kind) for column, kind in zip(values, types, strict=True)]
        return Rows(pa.Table.from_arrays(arrays, schema=self._columns), numbers, rejects)

    def _open(self, unit: Unit) -> None:
        assert unit.offset_bytes is not None, f"{unit.unit_id} has no offset"
        self.close()
        self._lines = Lines(self._shard, unit.offset_bytes)
        self._records = self._parse(self._lines)
