"""Counts the rows of a data file, and the values by which they are counted: labels and groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from sentiment.metrics.counts import Counts, count_unit, group_name
from sentiment.metrics.truth import TruthMap
from sentiment.output.rejects import python_values


def count_file(
    rows: pa.Table,
    prefix: str,
    *,
    rejected: Mapping[str, int],
    stage_sec: Mapping[str, float],
    **more: Any,
) -> Counts:
    """Count the rows of a data file from its added columns.

    Args:
        rows: Rows with the added columns.
        prefix: First word of these.
        rejected: Rejected rows by reason.
        stage_sec: Seconds by stage.
        more: As for `metrics.counts.count_unit`.
    """
    return count_unit(
        labels=rows.column(prefix).to_pylist(),
        scores=rows.column(f"{prefix}_score").to_numpy(),
        off_label=rows.column(f"{prefix}_off_label").to_numpy(),
        tokens=rows.column(f"{prefix}_tokens").to_numpy(),
        truncated=rows.column(f"{prefix}_truncated").to_numpy(),
        rejected=rejected,
        stage_sec=stage_sec,
        **more,
    )


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
