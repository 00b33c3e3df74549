"""Checks the text of rows from binary formats, whose readers do not.

Python fails on text that is not UTF-8, so a column that is not valid is looked at value by value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment.source.blocks import Reject, raw_text, rows_at
from sentiment.source.formats.lines import MAX_RECORD_BYTES


class CheckedRows(NamedTuple):
    """Consecutive rows after the check: good ones, their numbers in the shard, and rejects."""

    table: pa.Table
    numbers: list[int]
    rejects: list[Reject]


def checked_rows(table: pa.Table, first: int, texts: Collection[str]) -> CheckedRows:
    """Reject rows whose text is not UTF-8 or is too long.

    Args:
        table: The rows.
        first: Number in the shard of the first one.
        texts: The columns that are scored.
    """
    bad: dict[int, Reject] = {}
    for index, name in enumerate(table.column_names):
        column = table.column(index)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            column.validate()
            column = column.combine_chunks()
            if not pa.types.is_nested(column.type):
                if name not in texts and not is_text(column.type, or_bytes=False):
                    continue  # a time or a number out of its range: nobody scores it
                table = table.set_column(index, table.field(index), _shown(column))
                if name not in texts:
                    continue
            for row, raw in _undecodable(column, name in texts):
                reason = "undecodable_text" if name in texts else "malformed_record"
                detail = f"column {name!r} holds bytes that are not UTF-8"
                bad[first + row] = Reject(first + row, first + row, reason, detail, raw)
        if name in texts:
            for row in _too_long(table.column(index)):
                detail = f"column {name!r} holds more than {MAX_RECORD_BYTES} bytes"
                bad[first + row] = Reject(first + row, first + row, "malformed_record", detail)
    rows = range(first, first + table.num_rows)
    numbers = [row for row in rows if row not in bad] if bad else list(rows)
    if bad:
        table = rows_at(table, np.array([row not in bad for row in rows]))
    return CheckedRows(table, numbers, [bad[row] for row in sorted(bad)])


def is_text(kind: pa.DataType, *, or_bytes: bool = True) -> bool:
    """Whether values are text, also within a dictionary.

    Args:
        kind: Their type.
        or_bytes: Whether bytes count, which may be text.
    """
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type, or_bytes=or_bytes)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return True
    return or_bytes and (pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _too_long(column: pa.ChunkedArray) -> list[int]:
    """Return the rows whose text exceeds MAX_RECORD_BYTES, the limit for lines of text shards."""
    # No value is longer than all of them together, which costs nothing to know.
    if not is_text(column.type) or column.get_total_buffer_size() <= MAX_RECORD_BYTES:
        return []
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    too_long = pc.greater(pc.binary_length(column), MAX_RECORD_BYTES)
    return list(pc.indices_nonzero(too_long).to_pylist())


def _shown(column: pa.Array) -> pa.Array:
    """Return a column of strings with bytes that are not UTF-8 written as `\\xNN`."""
    if pa.types.is_dictionary(column.type):
        return pa.DictionaryArray.from_arrays(
            column.indices, _shown(column.dictionary), ordered=column.type.ordered
        )
    return pa.array(shown_texts(column), column.type)


def shown_texts(column: pa.Array) -> list[str | None]:
    """Return texts or bytes as text, with bytes that are not UTF-8 written as `\\xNN`."""
    values = column.cast(pa.large_binary()).to_pylist()
    return [None if v is None else v.decode("utf-8", "backslashreplace") for v in values]


def _undecodable(column: pa.Array, is_text: bool) -> Iterator[tuple[int, str | None]]:
    """Find the rows whose value is not UTF-8.

    Yields:
        The row, and the value as text for the reject file if it is that of the text column.

    Raises:
        pa.ArrowInvalid: The column is invalid in some other way: the row group is damaged.
    """
    rows: list[tuple[int, str | None]] = []
    if is_text and not pa.types.is_nested(column.type):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
            if value is not None and value.decode("utf-8", "backslashreplace").encode() != value:
                rows.append((row, raw_text(value)))
    else:
        for row, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError:
                rows.append((row, None))
            except ValueError:
                continue  # a date that Python cannot represent is still valid
    if not rows and is_text:
        raise pa.ArrowInvalid("its values are inconsistent")
    yield from rows
