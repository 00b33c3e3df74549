"""Builds the block of a unit from what a format reader returns: good rows and rejects.

The block has all rows in the order of the file, and the carrier columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from sentiment.block import CARRIER_FIELDS, STAGE_READ, empty_table, nulls
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
    """What a format reader returns for a unit. Good rows and rejects do not overlap.

    Attributes:
        good: The good rows, source columns only.
        numbers: Row number in the shard of each good row, ascending.
        rejects: Rows that could not be read.
    """

    good: pa.Table
    numbers: Sequence[int]
    rejects: Sequence[Reject] = ()

    @property
    def covered(self) -> int:
        """Rows of the shard that are good or rejected."""
        return len(self.numbers) + sum(one.last_row - one.first_row + 1 for one in self.rejects)


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
        rows: Good rows and rejects; together they are the rows of the unit.
        seconds: Time the reading took; each row of the result gets an equal share of it.

    Returns:
        The source columns, null where a row is rejected, then `block.CARRIER_FIELDS`.
    """
    covered = rows.covered
    assert covered == unit.rows, f"{unit.unit_id}: {covered} rows accounted for, not {unit.rows}"
    source = _interleave(columns, rows)
    entries: list[tuple[int, int, Reject | None]] = [(n, n, None) for n in rows.numbers]
    entries += [(r.first_row, r.last_row, r) for r in rows.rejects]
    entries.sort(key=lambda entry: entry[0])
    count = len(entries)
    rejects = [entry[2] for entry in entries]
    carriers = [
        pa.DictionaryArray.from_arrays(
            pa.array([0] * count, pa.int32()), pa.array([unit.to_json()], pa.string())
        ),
        pa.array([first for first, _, _ in entries], pa.int64()),
        pa.array([last for _, last, _ in entries], pa.int64()),
        pa.array([STAGE_READ if r else None for r in rejects], pa.string()),
        pa.array([r.reason if r else None for r in rejects], pa.string()),
        pa.array([r.detail if r else None for r in rejects], pa.string()),
        pa.array([r.raw if r else None for r in rejects], pa.string()),
        pa.array([seconds / max(count, 1)] * count, pa.float32()),
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
