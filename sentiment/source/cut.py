"""Cutting the rows of a shard into units."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping

from sentiment.source.shards import ShardIndex, Unit

# A unit is also the most work a crash can cost, and stands in memory whole.
_UNIT_BYTES = 32 * 2**20


def _rows_per_unit(index: ShardIndex, unit_rows: int) -> int:
    """Fewer rows where rows are long, so that a unit stays near _UNIT_BYTES on disk."""
    row_bytes = index.shard.size_bytes / max(1, index.rows)
    return max(1, min(unit_rows, int(_UNIT_BYTES / max(1.0, row_bytes))))


def _units(index: ShardIndex, gaps: Iterable[tuple[int, int]], unit_rows: int) -> Iterator[Unit]:
    """Split gaps into units of about `unit_rows`; delimited text only where reading can start."""
    offsets = dict(index.cuts)
    cuts = sorted(offsets)
    seekable = offsets[cuts[0]] is not None
    for first, last in gaps:
        start = first
        while start <= last:
            end = min(last, start + unit_rows - 1)
            if seekable:
                # A unit of delimited text starts where the index knows the byte offset, so that
                # no unit reads more of the file than its own rows.
                if end < last:
                    after = bisect_right(cuts, end + 1)
                    if cuts[after - 1] > start:
                        end = cuts[after - 1] - 1
                    else:
                        end = min(cuts[after] if after < len(cuts) else last + 1, last + 1) - 1
                yield Unit(index.shard, start, end, _offset(offsets, start))
            else:
                yield Unit(index.shard, start, end)
            start = end + 1


def _offset(offsets: Mapping[int, int | None], row: int) -> int:
    offset = offsets.get(row)
    assert offset is not None, f"row {row} starts no indexed record"
    return offset
