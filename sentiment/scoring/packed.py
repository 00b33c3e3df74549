"""Packs the block of a unit into one row, so that Ray Data keeps it whole.

Ray cuts and joins blocks by their size. A unit has to stay one block from the reader to the commit,
and a reader that yields unit after unit must not have to wait for the last one. One row cannot be
cut, and with a target size below that of any row, each leaves at once.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

# Bytes of a block that Ray aims at. Every row is larger, so that every row is a block.
TARGET_BYTES: Final = 1

_COLUMN: Final = "block"


def pack(block: pa.Table) -> pa.Table:
    """Return a table of one row that holds a block; columns of one chunk are not copied."""
    columns = [_whole(column) for column in block.columns]
    rows = pa.StructArray.from_arrays(columns, fields=list(block.schema))
    ends = pa.array([0, block.num_rows], pa.int64())
    return pa.table({_COLUMN: pa.LargeListArray.from_arrays(ends, rows)})


def unpack(packed: pa.Table) -> pa.Table:
    """Inverse of `pack`."""
    rows = packed.column(_COLUMN).chunk(0).flatten()
    return pa.Table.from_arrays(rows.flatten(), schema=pa.schema(list(rows.type)))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
