"""Reads consecutive records of a text shard, whatever their syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sentiment.source.blocks import Reject
from sentiment.source.lines import DamageError, Lines
from sentiment.source.shards import Shard, Unit

Record = TypeVar("Record")


class RecordReader(Generic[Record]):
    """The records of units of one shard.

    A unit that starts where the last one ended is read on from there: a compressed file can be
    entered only at its start, so opening it for every unit would decompress it again and again.
    """

    def __init__(self, shard: Shard, parse: Callable[[Lines], Iterator[Record]]) -> None:
        """Prepare to read; nothing is opened yet.

        Args:
            shard: The shard.
            parse: Yields the records of a file from its next line on.
        """
        self._shard = shard
        self._parse = parse
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

    def read(self, unit: Unit, rejects: list[Reject]) -> Iterator[tuple[int, Record]]:
        """Yield the rows of a unit with their numbers.

        Args:
            unit: A unit of the shard, from a cut of its index.
            rejects: Gets one reject for all rows that cannot be reached.
        """
        row = unit.first_row
        ending = "the file ends before the rows that were indexed"
        try:
            if row != self._next_row:
                self._open(unit)
            self._next_row = -1  # until the unit has come to its end
            while row <= unit.last_row:
                try:
                    record = next(self._records)
                except StopIteration:
                    break
                yield row, record
                row += 1
        except DamageError as error:
            ending = str(error)
        if row <= unit.last_row:
            rejects.append(Reject(row, unit.last_row, "unreadable_rows", ending))
            self.close()
        else:
            self._next_row = row

    def _open(self, unit: Unit) -> None:
        assert unit.offset_bytes is not None, f"{unit.unit_id} has no offset"
        self.close()
        self._lines = Lines(self._shard, unit.offset_bytes)
        self._records = self._parse(self._lines)
