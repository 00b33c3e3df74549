"""The keys of Hive partitions, as folders name them: `dt=2026-11-20/country=de`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

import pyarrow as pa

# What Hive and Spark write for null.
_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@lru_cache(4096)
def _items(folder: str) -> tuple[tuple[str, str | None], ...]:
    found = []
    for part in folder.split("/"):
        key, mark, value = part.partition("=")
        if key and mark:
            value = unquote(value)
            found.append((unquote(key), None if value == _NULL else value))
    return tuple(found)


def partition_of(folder: str) -> dict[str, str | None]:
    """Return the keys and values of a partition.

    Args:
        folder: `/`-separated; components without `=` are no keys. Values may be percent-encoded, as
            Hive and Spark write them.

    Returns:
        The values as text; None for a default partition, which stands for null.
    """
    return dict(_items(folder))


def key_column(value: str | None, rows: int) -> pa.Array:
    """Return the value of a key as the column of some rows."""
    return pa.array([value] * rows, pa.string())


def with_partition(table: pa.Table, folder: str, names: Sequence[str]) -> pa.Table:
    """Add keys of the partition that a table belongs to as columns.

    Args:
        table: Rows of one partition.
        folder: Its folder.
        names: Columns that are wanted. Those that are no keys are left as they are.

    Returns:
        The table. A key takes the place of a column of the same name, as in Spark and DuckDB.
    """
    partition = partition_of(folder)
    for name in names:
        if name not in partition:
            continue
        values = key_column(partition[name], table.num_rows)
        place = table.schema.get_field_index(name)
        if place < 0:
            table = table.append_column(name, values)
        else:
            table = table.set_column(place, name, values)
    return table
