"""The values of source columns by which rows are counted: true labels and groups."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sentiment.metrics.counts import group_name
from sentiment.metrics.truth import TruthMap
from sentiment.output.rejects import python_values


def truth_values(
    rows: pa.Table, label_column: str | None, truth: TruthMap
) -> list[str | None] | None:
    """Return the value of the label column of every row, as text; None if there is no column."""
    if label_column is None or label_column not in rows.column_names:
        return None
    values = python_values(rows.column(label_column))
    return truth.bounded([truth.text_of(value) for value in values])


def group_names(rows: pa.Table, columns: Sequence[str]) -> list[str] | None:
    """Return the group of every row, if rows are grouped.

    A column that the source lacks counts as null.
    """
    if not columns:
        return None
    values = [
        python_values(rows.column(name)) if name in rows.column_names else [None] * rows.num_rows
        for name in columns
    ]
    return [group_name(columns, row) for row in zip(*values, strict=True)]
