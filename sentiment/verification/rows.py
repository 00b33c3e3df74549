"""Counts the rows of one data file and of its reject file again, and compares with the footer.

All columns are decoded, so that a damaged page is found in any of them. The values of source
columns are not checked: they may be anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sentiment.block import empty_table
from sentiment.output.contents import rows_digest
from sentiment.output.counted_by import count_file
from sentiment.output.folder import Output
from sentiment.output.layout import PRIVATE_END, REJECT_SCHEMA, added_columns, reject_file_of
from sentiment.output.receipt import Footer, rejects_of
from sentiment.storage import one_line
from sentiment.texts import parse_names
from sentiment.verification.contents import DAMAGE_ERRORS, Problem

_BATCH_ROWS = 4096
_BUFFER_BYTES = 1024 * 1024

# Probabilities are float32, and rounding may take one a little beyond 0 or 1.
_ROUNDING = 1e-6

Rows = NDArray[np.int64]


def check_rows(output: Output, path: str, footer: Footer, prefix: str) -> list[Problem]:
    """Read a data file and its rejects, and compare them with the footer.

    Args:
        output: The output.
        path: Data file, relative to the output. Its schema must be in order.
        footer: Its footer, which must be in order.
        prefix: First word of its added columns.
    """
    try:
        data = _read(output, path, len(added_columns(prefix)), footer)
    except DAMAGE_ERRORS as error:
        return [Problem(path, f"its rows cannot be read ({one_line(error)})")]
    rejects = REJECT_SCHEMA.empty_table()
    reject_path = rejects_of(footer)
    if reject_path is not None:
        try:
            rejects = _read(output, reject_path)
        except DAMAGE_ERRORS as error:
            return [Problem(reject_path, f"its rows cannot be read ({one_line(error)})")]
        wrong = _check_rejects(rejects, footer)
        if wrong:
            return [Problem(reject_path, wrong)]
    rows = data.select(added_columns(prefix).names)
    problems = [Problem(path, what) for what in _check(rows, rejects, footer, prefix)]
    if not problems and footer.rows_sha256 is not None:
        problems = _check_contents(data, path, footer, prefix)
    if not problems and footer.reject_file is not None and not _is_whole(output, footer):
        return [Problem(footer.reject_file, "was changed: its name was made from other content")]
    return problems


def _check_contents(data: pa.Table, path: str, footer: Footer, prefix: str) -> list[Problem]:
    """Compare texts and labels with those that were written."""
    names = _text_columns(footer, data.column_names)
    if not names:
        return [Problem(path, "the column that was scored is not there")]
    if rows_digest(data, names, prefix) != footer.rows_sha256:
        return [Problem(path, "its texts, labels or scores were changed or swapped")]
    return []


def _text_columns(footer: Footer, names: Sequence[str]) -> list[str]:
    """Return the columns of a file that may have been scored."""
    known = footer.text_column or ""
    if known in names:
        return [known]
    try:
        return [name for name in parse_names(known) if name in names]
    except ValueError:
        return []


def _is_whole(output: Output, footer: Footer) -> bool:
    """Whether the content of a reject file is the one that its name was made from."""
    assert footer.reject_file is not None
    content = output.read(footer.reject_file) or b""
    expected = reject_file_of(footer.unit_id, content)
    earlier = expected.removesuffix(PRIVATE_END) + ".parquet"
    return footer.reject_file in (expected, earlier)


def _read(
    output: Output, path: str, last_columns: int | None = None, footer: Footer | None = None
) -> pa.Table:
    """Read all rows of a file, and return all columns, or the last ones and those of the texts.

    Raises:
        OSError: It cannot be read.
        pa.ArrowException: It is damaged.
        ValueError: A name in it is not UTF-8.
    """
    with output.filesystem.open_input_file(output.path(path)) as stream:
        # Streamed, because whole row groups of many files at once may not fit in memory.
        file = pq.ParquetFile(
            stream, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
        )
        width = len(file.schema_arrow)
        keep = list(range(width - (last_columns or width), width))
        others = file.schema_arrow.names[: keep[0] if keep else 0]
        texts = _text_columns(footer, others) if footer is not None else []
        keep = [*map(others.index, texts), *keep]
        # One thread per file: many files are read at the same time.
        parts = [
            pa.Table.from_batches([batch]).select(keep)
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False)
        ]
        table = pa.concat_tables([empty_table(file.schema_arrow).select(keep), *parts])
    # Parquet readers do not check that text is UTF-8, and Python fails on text that is not.
    table.validate(full=True)
    return table


def _check_rejects(rejects: pa.Table, footer: Footer) -> str | None:
    """Check a reject file by itself; return what is wrong, or None."""
    if not rejects.schema.equals(REJECT_SCHEMA):
        return "has not the columns of a reject file"
    if not _all_equal(rejects.column("source_file"), footer.source_file):
        return "holds rows of another source"
    first, last = rejects.column("source_row"), rejects.column("source_row_end")
    if footer.rowless:
        # Damage: one reject with an open end, for the whole file or from the first row on.
        starts = {footer.first_row, -1 if footer.first_row == 0 else footer.first_row}
        if rejects.num_rows != 1 or last.null_count != 1 or first[0].as_py() not in starts:
            return f"is not the one reject of everything from row {footer.first_row} on"
    elif last.null_count or pc.any(pc.less(last, first)).as_py():
        return "holds a reject whose last row is missing or before its first"
    return None


def _check(data: pa.Table, rejects: pa.Table, footer: Footer, prefix: str) -> Iterator[str]:
    """Check rows and rejects; yield what is wrong."""
    empty = [name for name in data.column_names if data.column(name).null_count]
    if empty:
        yield f"is null somewhere in {', '.join(empty)}"
        return
    if not _all_equal(data.column(f"{prefix}_source_file"), footer.source_file):
        yield f"{prefix}_source_file is not always the source in its footer"
    wrong = _uncovered(data.column(f"{prefix}_source_row"), rejects, footer)
    if wrong:
        yield wrong
    outside = [
        name
        for name in (f"{prefix}_score", f"{prefix}_off_label")
        if not _is_probability(data.column(name))
    ]
    if outside:
        yield f"is not within 0 and 1 somewhere in {', '.join(outside)}"
    else:
        yield from _recount(data, rejects, footer, prefix)


def _uncovered(rows: pa.ChunkedArray, rejects: pa.Table, footer: Footer) -> str | None:
    """Check that every row of the unit is there once; return what is wrong, or None.

    Excluded rows are in neither file; the footer tells how many they are.
    """
    if footer.rowless:
        return None
    single: Rows = rows.to_numpy()
    starts = np.concatenate([single, rejects.column("source_row").to_numpy()])
    ends = np.concatenate([single, rejects.column("source_row_end").to_numpy()])
    order = np.argsort(starts, kind="stable")
    # Sorted ranges cover the unit once if each starts after the end of the one before it.
    expected = np.concatenate([[footer.first_row], ends[order] + 1])
    found = np.concatenate([starts[order], [footer.last_row + 1]])
    off = np.flatnonzero(expected != found)
    gaps, excluded = found[off] - expected[off], footer.excluded
    if (gaps > 0).all() and int(gaps.sum()) == excluded:
        return None
    if not len(off):
        return f"holds all of its rows, its footer says {excluded:,} excluded"
    want, got = int(expected[off[0]]), int(found[off[0]])
    if got > want and (gaps > 0).all() and excluded:
        return f"lacks {int(gaps.sum()):,} rows, its footer says {excluded:,} excluded"
    if got > want:
        return f"row {want} is neither in it nor in its reject file"
    if got < footer.first_row or want > footer.last_row + 1:
        return "holds rows beyond its range, or its reject file does"
    return f"row {got} is there more than once, reject file included"


def _recount(data: pa.Table, rejects: pa.Table, footer: Footer, prefix: str) -> Iterator[str]:
    """Compare the counts in the footer with those of the rows; yield what is wrong."""
    lost: Counter[str] = Counter()
    first, last = rejects.column("source_row"), rejects.column("source_row_end")
    # A reject with an open end counts as one row, as its number of rows is unknown.
    spans = pc.fill_null(pc.add(pc.subtract(last, first), 1), 1)
    for reason, rows in zip(rejects.column("reason").to_pylist(), spans.to_pylist(), strict=True):
        lost[reason] += rows
    counts = count_file(data, prefix, rejected=lost, stage_sec={})
    claimed = footer.metrics
    for label, values in claimed["labels"].items():
        rows = counts["labels"].get(label, {}).get("rows", 0)
        if rows != values["rows"]:
            yield f"holds {rows:,} rows of label {label!r}, its footer counts {values['rows']:,}"
            return
    for reason, rows in claimed["rejected"].items():
        if counts["rejected"].get(reason, 0) != rows:
            found = counts["rejected"].get(reason, 0)
            yield f"its reject file holds {found:,} rows of {reason}, its footer counts {rows:,}"
            return
    different = [
        name
        for name in ("labels", "rejected", "off_label_histogram")
        if counts[name] != claimed.get(name)
    ]
    if different:
        yield f"its rows do not give what its footer counts under {', '.join(different)}"


def _all_equal(column: pa.ChunkedArray, value: str) -> bool:
    return bool(pc.all(pc.equal(column, value), min_count=0).as_py())


def _is_probability(column: pa.ChunkedArray) -> bool:
    values: NDArray[Any] = column.to_numpy()
    # NaN fails both comparisons.
    return bool(((values >= -_ROUNDING) & (values <= 1 + _ROUNDING)).all())
