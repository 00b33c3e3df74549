"""Opens Parquet files. Row groups are decoded in small batches and need not fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sentiment.source.formats.parquet_types import foreign_types

_BUFFER_BYTES = 1024 * 1024
# A damaged footer may claim any number of rows, and planning would make units of all of them. Real
# files are far below this limit, even if they hold the same text again and again.
_MAX_ROWS_PER_BYTE = 10_000


class ParquetFile:
    """A Parquet file; a group is a row group.

    Attributes:
        schema: Columns and types.
        group_rows: Rows of each row group.
        group_name: What a group is called.
        damage: None: where the footer can be read, it tells of all rows.
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
        with foreign_types():
            self._file = pq.ParquetFile(
                file, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
            )
            self.schema = self._file.schema_arrow
        self.group_rows = _group_rows(self._file.metadata, size_bytes)

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a row group, at most so many at once."""
        with foreign_types():
            # One thread: Ray runs as many readers as there are cores.
            yield from self._file.iter_batches(rows, row_groups=[group], use_threads=False)


def _group_rows(metadata: Any, size_bytes: int) -> list[int]:
    """Return the number of rows of each row group.

    Raises:
        pa.ArrowInvalid: The footer contradicts itself or the size of the file.
    """
    sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    if sum(sizes) != metadata.num_rows or min(sizes, default=0) < 0:
        raise pa.ArrowInvalid("the row counts in its footer contradict each other")
    if metadata.num_rows > size_bytes * _MAX_ROWS_PER_BYTE:
        raise pa.ArrowInvalid(f"its footer claims {metadata.num_rows} rows in {size_bytes} bytes")
    return sizes
