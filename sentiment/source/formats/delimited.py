"""Converts the records of CSV, TSV and other delimited text to rows.

Every value is a string; types are not guessed. An empty field is the empty string, as the format
has no null.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from sentiment.source.blocks import Reject, raw_text
from sentiment.source.formats.delimited_records import DelimitedRecord, records
from sentiment.source.formats.records import TextReader
from sentiment.source.formats.surrogates import is_utf8, shown
from sentiment.source.shards import Shard


def delimited_reader(
    shard: Shard, columns: pa.Schema, text_column: str
) -> TextReader[DelimitedRecord]:
    """Return a reader of the units of delimited text.

    Bytes that are not UTF-8 reject the row if they are in the text column; in other columns they
    become `\\xNN` and the row stays good.

    Args:
        shard: The shard, as indexed.
        columns: Source columns as indexed.
        text_column: The column to score.
    """
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    assert shard.layout.dialect is not None, "delimited text has one"
    dialect = shard.layout.dialect
    null_values = frozenset(dialect.null_values)
    text_index = columns.get_field_index(text_column)

    def convert(row: int, record: DelimitedRecord) -> list[Any] | Reject:
        reject = _judge(record, row, text_index, columns)
        if reject is not None:
            return reject
        assert record.fields is not None, "it would be a reject"
        values = record.fields if record.valid else [shown(value) for value in record.fields]
        if null_values:
            return [None if value in null_values else value for value in values]
        return values

    return TextReader(shard, columns, lambda lines: records(lines, dialect, columns.names), convert)


def _judge(record: DelimitedRecord, row: int, text_index: int, columns: pa.Schema) -> Reject | None:
    """Return the reject of a record that cannot be a row; None if it is a good row."""
    if record.fields is None:
        reason, detail = "malformed_record", record.problem
    elif len(record.fields) != len(columns):
        reason = "malformed_record"
        detail = f"{len(record.fields)} fields where the header has {len(columns)}"
    elif not record.valid and not is_utf8(record.fields[text_index]):
        reason = "undecodable_text"
        detail = f"column {columns.names[text_index]!r} holds bytes that are not UTF-8"
    else:
        return None
    return Reject(row, row, reason, detail, raw_text(b"".join(record.raw)))
