"""Builds the table of rejected rows, which is the same for all sources: the row itself is JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sentiment.block import ATTEMPTS, CARRIER_PREFIX, DETAIL, RAW, REASON, ROW, ROW_END, STAGE
from sentiment.output.layout import REJECT_SCHEMA
from sentiment.source.shards import Shard


def reject_table(shard: Shard, bad: pa.Table) -> pa.Table:
    """Build the content of a reject file.

    Args:
        shard: The shard of the rows.
        bad: Rejected rows: source columns and carriers.

    Returns:
        A table of `REJECT_SCHEMA`.
    """
    names = [name for name in bad.column_names if not name.startswith(CARRIER_PREFIX)]
    columns = [python_values(bad.column(name)) for name in names]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    raw = bad.column(RAW).to_pylist()
    first = bad.column(ROW)
    return pa.Table.from_arrays(
        [
            pa.array([shard.identity] * bad.num_rows, pa.string()),
            first,
            pc.coalesce(bad.column(ROW_END), first),
            bad.column(STAGE),
            bad.column(REASON),
            bad.column(DETAIL),
            _attempts(bad),
            pa.array(
                [_row_json(row, text) for row, text in zip(rows, raw, strict=True)], pa.string()
            ),
        ],
        schema=REJECT_SCHEMA,
    )


def _attempts(bad: pa.Table) -> pa.Array:
    """Return the attempts of each row: one, except for rows that crashed their process."""
    if ATTEMPTS not in bad.column_names:
        return pa.array([1] * bad.num_rows, pa.int32())
    return pc.fill_null(bad.column(ATTEMPTS), 1)


def rows_per_reject(rejects: pa.Table) -> list[int]:
    """Return how many source rows each reject of a reject table stands for."""
    spans = pc.subtract(rejects.column("source_row_end"), rejects.column("source_row"))
    return [int(span) + 1 for span in spans.to_pylist()]


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """Convert a column to Python values.

    Arrow holds values that Python cannot represent, such as dates after the year 9999. In their
    place stands a text that says so.
    """
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError, pa.ArrowException):
        return [_value(scalar) for chunk in column.chunks for scalar in chunk]


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    except (ValueError, OverflowError, pa.ArrowException):
        return f"a {scalar.type} that cannot be shown"


def _row_json(row: dict[str, Any], raw: str | None) -> str:
    return json.dumps(_plain(row if raw is None else raw), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """Convert a value to the nearest one that every JSON reader understands."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | None) else str(value)
