"""Packs the block of a unit into one row, so that Ray Data keeps it whole.

Ray cuts and joins blocks by their size. A unit has to stay one block from the reader to the commit,
and a reader that yields unit after unit must not have to wait for the last one. One row cannot be
cut, and with a target size below that of any row, each leaves at once.

Task workers import this module, so like `stages` it imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from sentiment.scoring.reading import Reader
from sentiment.scoring.stages import Commit, Tokenise

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


@dataclass(frozen=True)
class PackedReader:
    """A reader whose blocks are packed."""

    reader: Reader

    def __call__(self) -> Iterator[pa.Table]:
        return map(pack, self.reader())


class PackedTokenise(Tokenise):
    """The tokenise stage on packed blocks."""

    def __call__(self, block: pa.Table) -> pa.Table:
        return pack(super().__call__(unpack(block)))


class PackedCommit(Commit):
    """The commit stage on packed blocks; what it returns is not packed."""

    def __call__(self, block: pa.Table) -> pa.Table:
        return super().__call__(unpack(block))
