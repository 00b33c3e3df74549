"""Counts committed rows again that were counted by other columns than this run asks for.

Footers hold counts by the label column and the groups of the run that wrote them. Where a run names
others, the rows are read again, which costs one read of the file in every such run; the files stay
as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.errors import OutputError
from sentiment.metrics.counts import group_name
from sentiment.output.commit import Stamp
from sentiment.output.committed import UNREADABLE
from sentiment.output.counted_by import count_file, group_names, truth_values
from sentiment.output.folder import Output
from sentiment.output.layout import added_columns
from sentiment.output.receipt import Footer, rejects_of
from sentiment.output.rejects import rows_per_reject
from sentiment.source.selection.partitions import partition_of, with_partition

# Files that are held in memory at the same time.
_FILES_AT_ONCE = 4


def recounted(output: Output, footers: Sequence[Footer], stamp: Stamp) -> list[Footer]:
    """Return footers whose counts are by the columns of this run, in the same order.

    Args:
        output: The output.
        footers: Of files that are reused.
        stamp: Of this run.

    Raises:
        OutputError: A file has to be counted again and cannot be read.
    """

    def count(footer: Footer) -> Footer:
        if not _is_counted(footer, stamp):
            return _recount(output, footer, stamp)
        if stamp.group_by or "groups" not in footer.metrics:
            return footer
        asked = {name: values for name, values in footer.metrics.items() if name != "groups"}
        return replace(footer, metrics=asked)

    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        return list(threads.map(count, footers))


def _is_counted(footer: Footer, stamp: Stamp) -> bool:
    """Whether the counts of a file are by the columns of a run, or need not be."""
    by_label = stamp.label_column in (None, footer.label_column) or not footer.labelled
    by_group = not stamp.group_by or list(stamp.group_by) == footer.group_by or not footer.rows
    return by_label and by_group


def _recount(output: Output, footer: Footer, stamp: Stamp) -> Footer:
    columns = {stamp.label_column, *stamp.group_by, *added_columns(stamp.prefix).names}
    try:
        rows = _read(output, footer.unit_id, columns)
        rows = with_partition(rows, footer.folder, stamp.counted_by)
        rejected_groups = _rejected_groups(output, footer, stamp)
    except (*UNREADABLE, KeyError) as error:
        raise OutputError(
            f"{output.path(footer.unit_id)}: has to be counted by other columns and cannot be read "
            f"({type(error).__name__}); delete the file and run again, its rows will be scored anew"
        ) from error
    before = footer.metrics
    metrics = count_file(
        rows,
        stamp.prefix,
        rejected=before.get("rejected", {}),
        stage_sec=before.get("stage_sec", {}),
        truth=truth_values(rows, stamp.label_column, stamp.truth),
        groups=group_names(rows, stamp.group_by),
        rejected_groups=rejected_groups,
        split_rows=before.get("split_rows"),
        unknown_tokens=before.get("unknown_tokens"),
    )
    return replace(
        footer,
        metrics=metrics,
        label_column=stamp.label_column,
        group_by=list(stamp.group_by),
    )


def _read(output: Output, path: str, columns: set[str | None]) -> pa.Table:
    with output.filesystem.open_input_file(output.path(path)) as stream:
        file = pq.ParquetFile(stream)
        return file.read([name for name in file.schema_arrow.names if name in columns])


def _rejected_groups(output: Output, footer: Footer, stamp: Stamp) -> list[tuple[str, str, int]]:
    """Return group, reason and number of rows of each reject, from the rows that it shows."""
    path = rejects_of(footer)
    if path is None or not stamp.group_by or footer.rowless:
        return []
    rejects = _read(output, path, {"source_row", "source_row_end", "reason", "row_json"})
    found, partition = [], partition_of(footer.folder)
    reasons, shown = (rejects.column(name).to_pylist() for name in ("reason", "row_json"))
    for reason, text, lost in zip(reasons, shown, rows_per_reject(rejects), strict=True):
        row: Any = json.loads(text) if text is not None else None
        values = [
            partition[name]
            if name in partition
            else row.get(name)
            if isinstance(row, dict)
            else None
            for name in stamp.group_by
        ]
        found.append((group_name(stamp.group_by, values), reason, lost))
    return found
