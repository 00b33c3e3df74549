"""Cuts the rows of a shard into units, which are read, scored and committed as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

from sentiment.source.shards import ShardIndex, Unit

# A worker holds a whole unit in memory, and a crash loses the work on a whole unit.
_UNIT_BYTES = 32 * 2**20


def cut_into_units(
    index: ShardIndex, unit_rows: int, ranges: Iterable[tuple[int, int]] | None = None
) -> list[Unit]:
    """Cut a shard, or some row ranges of it, into units.

    Args:
        index: The shard, as indexed.
        unit_rows: Most rows of a unit. Units are shorter where rows are long, and longer where
            reading cannot start at any row in between.
        ranges: First and last rows to cut; each range starts where a unit may start. By default all
            rows of the shard.

    Returns:
        Units that cover every row of the ranges once, in the order of the ranges.
    """
    if ranges is None:
        ranges = [(0, index.rows - 1)]
    most_rows = _rows_within_limits(index, unit_rows)
    if index.cuts[0][1] is None:
        return [unit for span in ranges for unit in _cut_anywhere(index, span, most_rows)]
    offsets = dict(index.cuts)
    starts = sorted(offsets)
    units = []
    for first, last in ranges:
        start = first
        while start <= last:
            end = _last_row(starts, start, last, most_rows)
            offset_bytes = offsets.get(start)
            assert offset_bytes is not None, f"row {start} starts no indexed record"
            units.append(Unit(index.shard, start, end, offset_bytes, index.rows))
            start = end + 1
    return units


def _rows_within_limits(index: ShardIndex, unit_rows: int) -> int:
    """Return `unit_rows`, or fewer so that a unit stays near _UNIT_BYTES on disk."""
    row_bytes = index.shard.size_bytes / max(1, index.rows)
    return max(1, min(unit_rows, int(_UNIT_BYTES / max(1.0, row_bytes))))


def _cut_anywhere(index: ShardIndex, span: tuple[int, int], most_rows: int) -> Iterator[Unit]:
    """Cut a range of Parquet rows: reading can start at any of them."""
    first, last = span
    for start in range(first, last + 1, most_rows):
        yield Unit(index.shard, start, min(last, start + most_rows - 1), None, index.rows)


def _last_row(starts: Sequence[int], start: int, last: int, most_rows: int) -> int:
    """Choose the last row of a unit of text.

    The next unit must start at a row whose byte offset is known: otherwise its reader would have to
    read the file from an earlier row on, and so read rows of another unit as well.

    Args:
        starts: Rows with known byte offsets, ascending.
        start: First row of the unit, one of `starts`.
        last: Last row of the range that is cut.
        most_rows: Most rows of a unit.
    """
    ideal_next = start + most_rows
    if ideal_next > last:
        return last
    after = bisect_right(starts, ideal_next)
    if starts[after - 1] > start:
        return starts[after - 1] - 1
    # No known row is near enough, so this unit is longer than asked for: up to the next known row.
    next_start = starts[after] if after < len(starts) else last + 1
    return min(next_start - 1, last)
