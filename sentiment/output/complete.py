"""Checks that every row of a unit reached the commit, and reached it once."""

from __future__ import annotations

import pyarrow as pa

from sentiment.block import ROW, ROW_END
from sentiment.errors import LedgerError
from sentiment.source.shards import Unit


def check_complete(unit: Unit, good: pa.Table, rejects: pa.Table, excluded: pa.Table) -> int:
    """Check that every row of the unit is there once: labelled, rejected or excluded.

    Returns:
        The number of excluded rows.

    Raises:
        LedgerError: It is not.
    """
    covered = good.column(ROW).to_pylist()
    counts = []
    for table, names in (
        (rejects, ("source_row", "source_row_end")),
        (excluded, (ROW, ROW_END)),
    ):
        spans = zip(*(table.column(name).to_pylist() for name in names), strict=True)
        rows = [row for first, last in spans for row in range(first, last + 1)]
        counts.append(len(rows))
        covered += rows
    if sorted(covered) != list(range(unit.first_row, unit.last_row + 1)):
        raise LedgerError(
            f"{unit.shard.uri}: rows {unit.first_row} to {unit.last_row} reached the commit as "
            f"{good.num_rows} labelled, {counts[0]} rejected and {counts[1]} excluded rows; "
            "nothing of them is written"
        )
    return counts[1]
