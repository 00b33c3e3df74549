"""Cutting the rows of a shard into units."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sentiment.source.shards import ShardIndex, Unit

# A unit is the most work that a crash can cost, and a worker holds a whole unit in memory.
_UNIT_BYTES: Final = 32 * 2**20


def cut_into_units(
    index: ShardIndex, unit_rows: int, ranges: Iterable[tuple[int, int]] | None = None
) -> Iterator[Unit]:
    """Cut row ranges of a shard into units.

    Args:
        index: Of the shard.
        unit_rows: Most rows of a unit. Where rows are long a unit has fewer, so that it stays near
            32 MiB on disk. Delimited text can be cut only where the index knows a byte offset, so
            there a unit may have more.
        ranges: First and last row (inclusive) of each range to cut; default: all rows.

    Returns:
        Units in the order of their rows.
    """
    if ranges is None:
        ranges = [(0, index.rows - 1)] if index.rows else []
    rows = _rows_per_unit(index, unit_rows)
    offsets = dict(index.cuts)
    starts = sorted(row for row, offset in offsets.items() if offset is not None)
    for first, last in ranges:
        while first <= last:
            end = min(last, first + rows - 1)
            if starts:
                end = _end_before_a_start(starts, first, end, last)
            yield Unit(index.shard, first, end, _offset_of(offsets, first) if starts else None)
            first = end + 1


def _rows_per_unit(index: ShardIndex, unit_rows: int) -> int:
    row_bytes = index.shard.size_bytes / max(1, index.rows)
    return max(1, min(unit_rows, int(_UNIT_BYTES / max(1.0, row_bytes))))


def _end_before_a_start(starts: Sequence[int], first: int, end: int, last: int) -> int:
    """Move the end of a unit of delimited text, so that the next unit begins at a known offset.

    A reader jumps to the byte offset of its unit's first row. Without one it would have to read the
    file from an earlier row, and several units would read the same bytes.

    Args:
        starts: Rows with a known byte offset, ascending; `first` is one of them.
        first: First row of the unit.
        end: Last row that it should have.
        last: Last row of the range that is cut.
    """
    if end == last:
        return end
    after = bisect_right(starts, end + 1)
    previous_start = starts[after - 1]  # the last start that is not behind the row after the unit
    if previous_start > first:
        return previous_start - 1
    # The unit lies between two starts and cannot be cut: it reaches up to the next one.
    next_start = starts[after] if after < len(starts) else last + 1
    return min(next_start, last + 1) - 1


def _offset_of(offsets: dict[int, int | None], row: int) -> int:
    offset = offsets.get(row)
    assert offset is not None, f"row {row} starts no indexed record"
    return offset
