"""Opens Parquet files. Row groups are decoded in small batches and need not fit in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.source.formats.arrow_errors import as_arrow_errors
from sentiment.source.selection.statistics import Statistics

_BUFFER_BYTES = 1024 * 1024
# A damaged footer may claim any number of rows, and planning would make units of all of them. Real
# files are far below this limit, even if they hold the same text again and again.
MAX_ROWS_PER_BYTE: Final = 10_000
# Statistics that are looked at.
_MOST_STATISTICS = 2000
_LARGEST_IN_FLOAT = 2**53


class ParquetFile:
    """A Parquet file; a group is a row group.

    Attributes:
        schema: Columns and types.
        group_rows: Rows of each row group.
        group_name: What a group is called.
        damage: None: where the footer can be read, it tells of all rows.
        wide_columns: Columns of 64-bit integers that a float of 64 bits may not hold, as far as the
            footer tells.
    """

    group_name = "row group"
    damage: str | None = None

    def __init__(self, file: Any, size_bytes: int) -> None:
        """Read the footer.

        Args:
            file: The file, seekable.
            size_bytes: Its size.

        Raises:
            pa.ArrowException: It is no Parquet, or its footer contradicts itself.
        """
        self._file = pq.ParquetFile(
            file,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
            # The old type of Spark and Hive. In nanoseconds the year 9999 would wrap around.
            coerce_int96_timestamp_unit="us",
        )
        self.schema = self._file.schema_arrow
        self.group_rows = _group_rows(self._file.metadata, size_bytes)
        self.wide_columns = _wide_columns(self._file.metadata, self.schema)

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group, at most so many at once."""
        with as_arrow_errors("its types"):
            # One thread: Ray runs as many readers as there are cores.
            yield from self._file.iter_batches(rows, row_groups=[group], use_threads=False)

    def statistics(self, group: int, names: Collection[str]) -> dict[str, Statistics]:
        """Return what the footer says of the values of some columns in a row group.

        There are no bounds for columns of types whose statistics are not exact enough.
        """
        found: dict[str, Statistics] = {}
        metadata = self._file.metadata.row_group(group)
        kinds = {one.name: one.type for one in self.schema if one.name in names}
        for place in range(metadata.num_columns):
            chunk = metadata.column(place)
            kind = kinds.get(chunk.path_in_schema)
            if kind is not None and chunk.statistics is not None:
                found[chunk.path_in_schema] = _statistics(chunk.statistics, kind)
        return found


def _statistics(found: Any, kind: pa.DataType) -> Statistics:
    nulls = found.null_count if found.has_null_count else None
    bounds = None
    if found.has_min_max and _has_bounds(kind):
        try:
            bounds = pa.array([found.min, found.max], kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            bounds = None  # a damaged footer, or a time that Python has not
    are_null = nulls is not None and found.num_values == 0 and nulls > 0
    return Statistics(bounds, are_null, have_nulls=nulls != 0)


def _has_bounds(kind: pa.DataType) -> bool:
    """Whether the least and the greatest value mean the same here as in the file.

    Times in nanoseconds lose digits on their way through Python.
    """
    if pa.types.is_timestamp(kind):
        return bool(kind.unit != "ns")
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_string(kind)
        or pa.types.is_date32(kind)
    )


def _wide_columns(metadata: Any, schema: pa.Schema) -> frozenset[str]:
    """Return columns of 64-bit integers of which the footer does not say that they are small."""
    wide = {one.name for one in schema if one.type in (pa.int64(), pa.uint64())}
    if not wide or metadata.num_row_groups * metadata.num_columns > _MOST_STATISTICS:
        return frozenset(wide)
    places = {metadata.schema.column(at).path: at for at in range(metadata.num_columns)}
    return frozenset(
        name
        for name in wide
        if not all(
            _is_small(metadata.row_group(group).column(places[name]))
            for group in range(metadata.num_row_groups)
        )
    )


def _is_small(chunk: Any) -> bool:
    found = chunk.statistics
    return (
        found is not None
        and found.has_min_max
        and -_LARGEST_IN_FLOAT <= found.min <= found.max <= _LARGEST_IN_FLOAT
    )


def _group_rows(metadata: Any, size_bytes: int) -> list[int]:
    """Return the number of rows of each row group.

    Raises:
        pa.ArrowInvalid: The footer contradicts itself or the size of the file.
    """
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(sizes) != metadata.num_rows or min(sizes, default=0) < 0:
        raise pa.ArrowInvalid("the row counts in its footer contradict each other")
    if metadata.num_rows > size_bytes * MAX_ROWS_PER_BYTE:
        raise pa.ArrowInvalid(f"its footer claims {metadata.num_rows} rows in {size_bytes} bytes")
    return sizes
