"""The columns and file names of an output."""

from __future__ import annotations

import pyarrow as pa
import pytest

from sentiment.block import CARRIER_FIELDS, CARRIER_PREFIX
from sentiment.output.layout import REJECT_SCHEMA, added_columns, is_data_file


def test_added_columns_are_the_contract() -> None:
    assert added_columns("sentiment") == pa.schema(
        [
            ("sentiment", pa.string()),
            ("sentiment_score", pa.float32()),
            ("sentiment_off_label", pa.float32()),
            ("sentiment_tokens", pa.int32()),
            ("sentiment_truncated", pa.bool_()),
            ("sentiment_source_file", pa.string()),
            ("sentiment_source_row", pa.int64()),
        ]
    )


def test_carriers_cannot_meet_added_or_reject_columns() -> None:
    assert all(name.startswith(CARRIER_PREFIX) for name in CARRIER_FIELDS.names)
    assert not set(CARRIER_FIELDS.names) & {*added_columns("sentiment").names, *REJECT_SCHEMA.names}


@pytest.mark.parametrize(
    ("path", "is_data"),
    [
        ("a.csv-0-9.parquet", True),
        ("dt=1/a-b.parquet", True),
        ("dt=1/a.csv", False),
        ("_sentiment/rejected/dt=1/a.parquet", False),
        ("dt=1/.a.parquet.1234abcd", False),
        ("dt=1/.a.parquet", False),
        ("_SUCCESS", False),
    ],
)
def test_data_files_are_known_by_their_paths(path: str, is_data: bool) -> None:
    assert is_data_file(path) == is_data
