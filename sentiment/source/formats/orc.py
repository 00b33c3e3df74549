"""Opens ORC files. A stripe is decoded as a whole: Arrow reads no smaller parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.orc

from sentiment.source.formats.arrow_errors import as_arrow_errors


class OrcFile:
    """An ORC file; a group is a stripe.

    Attributes:
        schema: Columns and types.
        group_rows: Rows of each stripe.
        group_name: What a group is called.
        damage: None: where the footer can be read, it tells of all rows.
        wide_columns: Columns of 64-bit integers: the file does not tell how large they are.
    """

    group_name = "stripe"
    damage: str | None = None

    def __init__(self, file: Any, size_bytes: int) -> None:
        """Read the footer, and of each stripe one column: the footer's row counts are not shown.

        Args:
            file: The file, seekable.
            size_bytes: Its size; not needed.

        Raises:
            OSError: It is damaged or no ORC.
            pa.ArrowException: It is damaged or no ORC.
        """
        del size_bytes
        self._file = pyarrow.orc.ORCFile(file)
        self.schema = self._file.schema
        self.wide_columns = frozenset(
            one.name for one in self.schema if pa.types.is_int64(one.type)
        )
        narrow = [_narrowest(self.schema)] if len(self.schema) else None
        self.group_rows = [
            self._file.read_stripe(stripe, columns=narrow).num_rows
            for stripe in range(self._file.nstripes)
        ]
        if sum(self.group_rows) != self._file.nrows:
            raise pa.ArrowInvalid("the row counts in its footer contradict each other")

    def batches(self, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a stripe, at most so many at once."""
        with as_arrow_errors("its types"):
            stripe = self._file.read_stripe(group)
        for start in range(0, stripe.num_rows, rows):
            yield stripe.slice(start, rows)


def _narrowest(schema: pa.Schema) -> str:
    """Return the name of a column that is quick to read."""
    numbers = [field.name for field in schema if pa.types.is_primitive(field.type)]
    return str((numbers or schema.names)[0])
