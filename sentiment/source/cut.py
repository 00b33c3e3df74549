"""Cuts the rows of a shard into units, which are read, scored and committed as one."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentiment.source.shards import ShardIndex, Unit

# A worker holds a whole unit in memory, and a crash loses the work on a whole unit. Bytes of text
# are counted as decompressed, those of Parquet as they are in the file: how many they will be, only
# reading tells, which ends a unit early (see `read.ShardReader`).
_UNIT_BYTES: Final = 32 * 2**20
# Rows of text between two cuts. Outputs of earlier versions have units that start at these rows.
_CUT_ROWS: Final = 1024
# Decompressed bytes after which there is a cut, however few rows they hold.
_CUT_BYTES: Final = 8 * 2**20


class CutFinder:
    """Counts the records of a text shard, and notes at which of them units may start.

    Attributes:
        rows: Records so far.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._cuts: list[tuple[int, int | None]] = []
        self._last_bytes = 0

    def begin(self, offset_bytes: int) -> None:
        """Note where the first record starts."""
        self._note(offset_bytes)

    def add(self, offset_bytes: int) -> None:
        """Count a record.

        Args:
            offset_bytes: Where it starts in the decompressed file.
        """
        if self.rows and (
            self.rows % _CUT_ROWS == 0 or offset_bytes - self._last_bytes >= _CUT_BYTES
        ):
            self._note(offset_bytes)
        self.rows += 1

    def add_all(self, offsets: npt.NDArray[np.int64]) -> None:
        """Count records, as `add` does one after another.

        Args:
            offsets: Where each starts in the decompressed file, ascending.
        """
        at = 0 if self.rows else 1  # the first record of all is the first cut
        while True:
            by_rows = at + -(self.rows + at) % _CUT_ROWS
            by_bytes = int(np.searchsorted(offsets, self._last_bytes + _CUT_BYTES))
            at = min(by_rows, max(at, by_bytes))
            if at >= len(offsets):
                break
            self._cuts.append((self.rows + at, int(offsets[at])))
            self._last_bytes = int(offsets[at])
            at += 1
        self.rows += len(offsets)

    @property
    def found(self) -> tuple[tuple[int, int | None], ...]:
        """The cuts, as `ShardIndex` has them."""
        return tuple(self._cuts) or ((0, None),)

    def _note(self, offset_bytes: int) -> None:
        self._cuts.append((self.rows, offset_bytes))
        self._last_bytes = offset_bytes


def cut_into_units(
    index: ShardIndex, unit_rows: int, ranges: Iterable[tuple[int, int]] | None = None
) -> list[Unit]:
    """Cut a shard, or some row ranges of it, into units.

    Args:
        index: The shard, as indexed.
        unit_rows: Most rows of a unit. Units are shorter where rows are long or a row group ends,
            and longer where reading cannot start at any row in between.
        ranges: First and last rows to cut; each range starts where a unit may start. By default all
            rows of the shard.

    Returns:
        Units that cover every row of the ranges once, in the order of the ranges.
    """
    if ranges is None:
        ranges = [(0, index.rows - 1)]
    if index.cuts[0][1] is None:
        row_bytes = index.shard.size_bytes / max(1, index.rows)
        most_rows = max(1, min(unit_rows, int(_UNIT_BYTES / max(1.0, row_bytes))))
        starts = [row for row, _ in index.cuts]
        return [unit for span in ranges for unit in _cut_parquet(index, starts, span, most_rows)]
    starts = [row for row, _ in index.cuts]
    offsets = [offset or 0 for _, offset in index.cuts]
    units = []
    for first, last in ranges:
        start = first
        while start <= last:
            at = bisect_left(starts, start)
            assert start in starts[at : at + 1], f"row {start} starts no indexed record"
            end = min(last, _next_start(starts, offsets, at, unit_rows, last + 1) - 1)
            units.append(Unit(index.shard, start, end, offsets[at], index.rows))
            start = end + 1
    return units


def group_into_passes(index: ShardIndex, units: Sequence[Unit]) -> Iterator[tuple[Unit, ...]]:
    """Group the units of a shard that are best read one after another, by one reader.

    A row group and a compressed file can be entered at their start only, and the cost of a unit in
    the middle is that of all rows before it.

    Args:
        index: The shard, as indexed.
        units: Units of the shard, in order.
    """
    if not index.shard.is_binary:
        if index.shard.has_one_entry:
            yield from [tuple(units)] if units else []
        else:
            yield from ((unit,) for unit in units)
        return
    starts = [row for row, _ in index.cuts]
    together: list[Unit] = []
    for unit in units:
        if together and _group_of(starts, together[-1].last_row) != _group_of(
            starts, unit.first_row
        ):
            yield tuple(together)
            together = []
        together.append(unit)
    if together:
        yield tuple(together)


def _group_of(starts: Sequence[int], row: int) -> int:
    return bisect_right(starts, row)


def _cut_parquet(
    index: ShardIndex, starts: Sequence[int], span: tuple[int, int], most_rows: int
) -> Iterator[Unit]:
    """Cut a range of Parquet rows: units hold whole row groups, or rows of one row group.

    So no row group is read for two units, but those that hold more rows than a unit.
    """
    first, last = span
    while first <= last:
        next_first = min(first + most_rows, last + 1)
        if next_first <= last:
            group = starts[bisect_right(starts, next_first) - 1]
            next_first = group if group > first else next_first
        yield Unit(index.shard, first, next_first - 1, None, index.rows)
        first = next_first


def _next_start(
    starts: Sequence[int], offsets: Sequence[int], at: int, most_rows: int, end: int
) -> int:
    """Choose the row after a unit of text.

    It must be a row whose byte offset is known: otherwise its reader would have to read the file
    from an earlier row on, and so read rows of another unit as well.

    Args:
        starts: Rows with known byte offsets, ascending.
        offsets: Their offsets.
        at: Which of them the unit starts with.
        most_rows: Most rows of a unit, if the next known row is not farther away.
        end: One past the last row of the range that is cut.
    """
    last = bisect_left(starts, end) - 1
    by_bytes = bisect_right(offsets, offsets[at] + _UNIT_BYTES) - 1
    if end - starts[at] <= most_rows and last <= by_bytes:
        return end
    by_rows = bisect_right(starts, starts[at] + most_rows) - 1
    after = max(at + 1, min(by_rows, by_bytes))
    return starts[after] if after <= last else end
