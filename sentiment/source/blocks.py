"""Builds the block of a unit from what a format reader returns: good rows and rejects.

The block has all rows in the order of the file, and the carrier columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentiment.block import CARRIER_FIELDS, EXCLUDED, STAGE_READ, empty_table, nulls
from sentiment.source.shards import Unit

RAW_BYTES = 64 * 1024


@dataclass(frozen=True)
class Reject:
    """A row, or a run of rows, that could not be read.

    Attributes:
        first_row: Row number in the shard.
        last_row: The same as `first_row` for a single record.
        reason: One of `block.REASONS`.
        detail: What exactly was wrong, without review text.
        raw: The record as it stands in the file; None if it cannot be shown.
    """

    first_row: int
    last_row: int
    reason: str
    detail: str
    raw: str | None = None


@dataclass(frozen=True)
class Rows:
    """What a format reader returns for a unit. Good, rejected and excluded rows do not overlap.

    Attributes:
        good: The good rows, source columns only.
        numbers: Row number in the shard of each good row, ascending.
        rejects: Rows that could not be read.
        excluded: First and last row of each run of rows that are not wanted.
    """

    good: pa.Table
    numbers: Sequence[int]
    rejects: Sequence[Reject] = ()
    excluded: Sequence[tuple[int, int]] = ()

    @property
    def covered(self) -> int:
        """Rows of the shard that are good, rejected or excluded."""
        spans = [(one.first_row, one.last_row) for one in self.rejects]
        return len(self.numbers) + sum(last - first + 1 for first, last in [*spans, *self.excluded])

    def only(self, wanted: NDArray[np.bool_]) -> Rows:
        """Exclude good rows that are not wanted.

        Args:
            wanted: For each good row, whether it is wanted.
        """
        if wanted.all():
            return self
        numbers = np.asarray(self.numbers, np.int64)
        others = numbers[~wanted]
        # A run ends where the next number is not the one after it.
        ends = np.flatnonzero(np.diff(others) != 1)
        firsts, lasts = others[[0, *(ends + 1)]], others[[*ends, -1]]
        return replace(
            self,
            good=rows_at(self.good, wanted),
            numbers=numbers[wanted].tolist(),
            excluded=[*self.excluded, *zip(firsts.tolist(), lasts.tolist(), strict=True)],
        )


def rows_at(table: pa.Table, wanted: NDArray[np.bool_]) -> pa.Table:
    """Return the rows that are wanted, of columns of any type: Arrow filters not every one."""
    try:
        return table.filter(pa.array(wanted))
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]]).astype(np.int8)))
        starts, ends = edges[::2].tolist(), edges[1::2].tolist()
        pieces = [table.slice(at, end - at) for at, end in zip(starts, ends, strict=True)]
        return pa.concat_tables([table.slice(0, 0), *pieces])


def raw_text(record: bytes) -> str:
    """Return a record as text for the reject file, shortened to RAW_BYTES of UTF-8.

    Bytes that are not UTF-8 become `\\xNN`.
    """
    end = min(len(record), RAW_BYTES)
    # Do not cut within a UTF-8 character: its first half would look like a damaged byte.
    while 0 < end < len(record) and end > RAW_BYTES - 4 and record[end] & 0xC0 == 0x80:
        end -= 1
    shown = record[:end].decode("utf-8", "backslashreplace")
    return shown.encode()[:RAW_BYTES].decode("utf-8", "ignore")


def lost(unit: Unit, columns: pa.Schema, reason: str, detail: str) -> Rows:
    """Reject all rows of a unit in one reject.

    Args:
        unit: The unit.
        columns: Its source columns.
        reason: One of `block.REASONS`.
        detail: What was wrong, without review text.
    """
    reject = Reject(unit.first_row, unit.last_row, reason, detail)
    return Rows(empty_table(columns), (), (reject,))


def assemble(unit: Unit, columns: pa.Schema, rows: Rows, seconds: float) -> pa.Table:
    """Put good rows and rejects in order and add the carriers.

    Args:
        unit: The unit that was read.
        columns: Source columns and types of the result.
        rows: Good rows, rejects and excluded rows; together they are the rows of the unit.
        seconds: Time the reading took; each row of the result gets an equal share of it.

    Returns:
        The source columns, null where a row is rejected, then `block.CARRIER_FIELDS`. A run of
        excluded rows is one row of nulls; those are the last.
    """
    covered = rows.covered
    assert covered == unit.rows, f"{unit.unit_id}: {covered} rows accounted for, not {unit.rows}"
    source = _interleave(columns, rows)
    numbers = np.asarray(rows.numbers, np.int64)
    rejects = sorted(rows.rejects, key=lambda reject: reject.first_row)
    starts = [one.first_row for one in rejects]
    before = np.searchsorted(numbers, starts)  # good rows before each reject
    firsts = np.insert(numbers, before, starts)
    places = before + np.arange(len(rejects))
    lasts = firsts.copy()
    lasts[places] = [one.last_row for one in rejects]
    if rows.excluded:
        spans = np.asarray(rows.excluded, np.int64)
        firsts, lasts = np.append(firsts, spans[:, 0]), np.append(lasts, spans[:, 1])
        places = np.append(places, np.arange(len(numbers) + len(rejects), len(firsts)))
        rejects += [Reject(first, last, EXCLUDED, "") for first, last in rows.excluded]
        missing = [nulls(len(rows.excluded), kind) for kind in columns.types]
        source = pa.concat_tables([source, pa.Table.from_arrays(missing, schema=columns)])
        source = source.combine_chunks()
    count = len(firsts)

    def at_rejects(values: Sequence[str | None]) -> pa.Array:
        column = np.full(count, None, object)
        column[places] = values
        return pa.array(column, pa.string())

    carriers = [
        pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(count, np.int32)), pa.array([unit.to_json()], pa.string())
        ),
        pa.array(firsts),
        pa.array(lasts),
        at_rejects([STAGE_READ] * len(rejects)),
        at_rejects([one.reason for one in rejects]),
        at_rejects([one.detail for one in rejects]),
        at_rejects([one.raw for one in rejects]),
        pa.array(np.full(count, seconds / max(count, 1), np.float32)),
    ]
    return pa.Table.from_arrays(
        [*source.columns, *carriers], schema=pa.schema([*columns, *CARRIER_FIELDS])
    )


def _interleave(columns: pa.Schema, rows: Rows) -> pa.Table:
    """Return the good rows, with a row of nulls in the place of each reject."""
    good = pa.Table.from_arrays(rows.good.columns, schema=columns)
    # Slices and null rows are joined because `take` does not support every type of Parquet.
    pieces: list[pa.Table] = []
    done = 0
    missing = pa.Table.from_arrays([nulls(1, kind) for kind in columns.types], schema=columns)
    for before, reject in _positions(rows):
        if before > done:
            pieces.append(good.slice(done, before - done))
            done = before
        assert reject.first_row <= reject.last_row
        pieces.append(missing)
    if not pieces:
        return good
    return pa.concat_tables([*pieces, good.slice(done)]).combine_chunks()


def _positions(rows: Rows) -> list[tuple[int, Reject]]:
    """Return each reject with the number of good rows before it, in the order of the file."""
    positions = []
    before = 0
    for reject in sorted(rows.rejects, key=lambda r: r.first_row):
        while before < len(rows.numbers) and rows.numbers[before] < reject.first_row:
            before += 1
        positions.append((before, reject))
    return positions
