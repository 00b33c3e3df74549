"""The digest of the rows of a data file: texts and labels that were swapped between rows show."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from sentiment.output.layout import added_columns
from sentiment.output.rejects import python_values


def rows_digest(rows: pa.Table, text_columns: Sequence[str], prefix: str) -> str:
    """Return the SHA-256 of the texts and the added columns of a data file, in their order.

    It depends on the values alone, not on how a file was written: a copy with another compression
    has the same.

    Args:
        rows: Rows as they are in the file; has at least these columns.
        text_columns: The columns that may have been scored.
        prefix: First word of the added columns.
    """
    hasher = hashlib.sha256()
    for name in (*text_columns, *added_columns(prefix).names):
        column = rows.column(name)
        kind = column.type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind):
            hasher.update(column.to_numpy().tobytes())
        else:
            for value in python_values(column):
                data = _bytes_of(value)
                hasher.update(len(data).to_bytes(8, "little"))
                hasher.update(data)
    return hasher.hexdigest()


def _bytes_of(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
