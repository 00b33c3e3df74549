"""Reads units of shards, whatever their format.

Damaged data is no error here: a block holds it as rejects. Errors are for sources that have changed
and for storage that does not answer.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol, Self

import pyarrow as pa

from sentiment.source.blocks import Rows, assemble, lost
from sentiment.source.formats.delimited import delimited_reader
from sentiment.source.formats.groups import GroupReader, index_groups
from sentiment.source.formats.json_columns import json_reader
from sentiment.source.options import BY_DEFAULT, ReadOptions
from sentiment.source.shards import Shard, Unit
from sentiment.source.state import check_unchanged
from sentiment.storage import is_outage


class _FormatReader(Protocol):
    """What each format has: it holds the file open and knows where the last unit ended."""

    def read(self, unit: Unit, max_bytes: int | None) -> Rows: ...

    def close(self) -> None: ...


class ShardReader:
    """Reads units of one shard as blocks; a context manager, as it holds a file open.

    Units are best read in the order of the file: each goes on where the last one ended. Any other
    unit is found from the last place in the file at which reading can start.
    """

    def __init__(self, shard: Shard, columns: pa.Schema, options: ReadOptions = BY_DEFAULT) -> None:
        """Prepare to read.

        Args:
            shard: The shard, as its index has it.
            columns: Source columns as indexed.
            options: Which columns are scored, and which rows are wanted.
        """
        self._shard = shard
        self._columns = columns
        self._selection = options.selection
        self._rows = _reader_of(shard, columns, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rows.close()

    def read(self, unit: Unit, max_bytes: int | None = None) -> pa.Table:
        """Read the rows of a unit as one block.

        Args:
            unit: Rows of the shard, starting at a cut of its index.
            max_bytes: Bytes of memory after which a unit of a binary shard ends, even if rows are
                left. Units of text are cut where they are planned.

        Returns:
            The source columns, then `block.CARRIER_FIELDS`. One row per source row in file order,
            except that rows lost together share one reject from ROW to ROW_END, and that runs of
            rows that are not wanted do so, too, as the last rows. For all other rows
            ROW_END is ROW. A rejected row is null in every source column. If the unit was ended
            early, the block names the unit that it is.

        Raises:
            SourceChangedError: The file is gone or changed since it was listed, or this process
                does not see it.
            OSError: The storage does not answer. All that is wrong with the data becomes rejects.
        """
        started = time.perf_counter()
        try:
            check_unchanged(self._shard)
            rows = self._rows.read(unit, max_bytes)
            # The check of the state below would miss an outage that is over by then.
            outage = next((one.detail for one in rows.rejects if is_outage(one.detail)), None)
            if outage is not None:
                raise OSError(f"{self._shard.uri}: {outage}")
            # If the file changed while it was read, the rows may be partly of the old file and
            # partly of the new one. This also raises if the storage failed, and not the file.
            check_unchanged(self._shard)
        except BaseException:
            self._rows.close()
            raise
        if max_bytes is not None:
            unit = replace(unit, last_row=unit.first_row + rows.covered - 1)
        if self._selection:
            rows = rows.only(
                self._selection.wanted(
                    self._shard.identity, self._shard.folder, rows.good, rows.numbers
                )
            )
        return assemble(unit, self._columns, rows, time.perf_counter() - started)


def _reader_of(shard: Shard, columns: pa.Schema, options: ReadOptions) -> _FormatReader:
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    if shard.is_binary:
        return GroupReader(shard, columns, options)
    texts = options.texts.of(columns.names)
    if shard.layout.format in ("json", "jsonl"):
        return json_reader(shard, columns, texts)
    return delimited_reader(shard, columns, texts)


def read_unit(unit: Unit, columns: pa.Schema, options: ReadOptions = BY_DEFAULT) -> pa.Table:
    """Read all rows of one unit, as `ShardReader.read` does."""
    with ShardReader(unit.shard, columns, options) as reader:
        return reader.read(unit)


def divide_unit(unit: Unit) -> list[Unit]:
    """Divide a unit at the groups of its binary shard, such as row groups of Parquet.

    Returns:
        At least two units; none if the rows can only be read together.
    """
    if not unit.shard.is_binary:
        return []
    starts = [row for row, _ in index_groups(unit.shard).cuts]
    firsts = [unit.first_row, *(row for row in starts if unit.first_row < row <= unit.last_row)]
    lasts = [row - 1 for row in firsts[1:]] + [unit.last_row]
    if len(firsts) == 1:
        return []
    return [
        replace(unit, first_row=first, last_row=last)
        for first, last in zip(firsts, lasts, strict=True)
    ]


def lost_unit(unit: Unit, columns: pa.Schema, detail: str) -> pa.Table:
    """Return the block that `read_unit` returns if all rows of a unit are lost.

    Args:
        unit: The unit.
        columns: Source columns as indexed.
        detail: What was wrong, without review text.
    """
    return assemble(unit, columns, lost(unit, columns, "unreadable_rows", detail), 0.0)
