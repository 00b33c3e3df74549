"""Converts the records of CSV, TSV and other delimited text to rows.

Every value is a string; types are not guessed. An empty field is the empty string, as the format
has no null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from sentiment.source.blocks import Reject, raw_text
from sentiment.source.formats.clean_text import Stretch, records_and_stretches, shape_of
from sentiment.source.formats.delimited_records import DelimitedRecord
from sentiment.source.formats.lines import Lines
from sentiment.source.formats.records import TextReader
from sentiment.source.formats.surrogates import is_utf8, shown
from sentiment.source.layout import Dialect
from sentiment.source.shards import Shard


def delimited_reader(
    shard: Shard, columns: pa.Schema, texts: Sequence[str]
) -> TextReader[DelimitedRecord]:
    """Return a reader of the units of delimited text.

    Bytes that are not UTF-8 reject the row if they are in a text column; in other columns they
    become `\\xNN` and the row stays good.

    Args:
        shard: The shard, as indexed.
        columns: Source columns as indexed.
        texts: Its columns that are scored.
    """
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    assert shard.layout.dialect is not None, "delimited text has one"
    dialect = shard.layout.dialect
    null_values = frozenset(dialect.null_values)
    text_places = [columns.get_field_index(name) for name in texts]

    def convert(row: int, record: DelimitedRecord) -> list[Any] | Reject:
        reject = _judge(record, row, text_places, columns)
        if reject is not None:
            return reject
        assert record.fields is not None, "it would be a reject"
        values = record.fields if record.valid else [shown(value) for value in record.fields]
        if null_values:
            return [None if value in null_values else value for value in values]
        return values

    shape = shape_of(dialect, columns.names)

    def parse(lines: Lines) -> Iterator[DelimitedRecord | pa.Table]:
        def take(stretch: Stretch) -> pa.Table | None:
            return _table_of(stretch, dialect, columns)

        return records_and_stretches(lines, dialect, columns.names, shape, take)

    return TextReader(shard, columns, parse, convert)


def _table_of(stretch: Stretch, dialect: Dialect, columns: pa.Schema) -> pa.Table | None:
    """Return clean records as rows; None if Arrow sees other records in them."""
    # The names of a file may be anything, and may occur twice.
    names = [str(number) for number in range(len(columns))]
    size_bytes = stretch.size_bytes
    content = pa.py_buffer(memoryview(stretch.content)[:size_bytes])
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            pa.csv.ReadOptions(use_threads=False, block_size=size_bytes + 1, column_names=names),
            pa.csv.ParseOptions(
                delimiter=dialect.delimiter,
                quote_char=dialect.quote or False,
                newlines_in_values=stretch.has_lines_within,  # Arrow is faster without
                ignore_empty_lines=False,
            ),
            pa.csv.ConvertOptions(
                column_types=dict(zip(names, columns.types, strict=True)),
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table.num_rows != stretch.rows:
        return None
    values = table.columns
    if dialect.null_values:
        nothing = pa.array(dialect.null_values, pa.string())
        values = [
            pc.if_else(pc.is_in(column, nothing), pa.scalar(None, column.type), column)
            for column in values
        ]
    return pa.Table.from_arrays(values, schema=columns)


def _judge(
    record: DelimitedRecord, row: int, text_places: Sequence[int], columns: pa.Schema
) -> Reject | None:
    """Return the reject of a record that cannot be a row; None if it is a good row."""
    if record.fields is None:
        reason, detail = "malformed_record", record.problem
    elif len(record.fields) != len(columns):
        reason = "malformed_record"
        detail = f"{len(record.fields)} fields where the header has {len(columns)}"
    else:
        fields = record.fields
        bad = () if record.valid else [at for at in text_places if not is_utf8(fields[at])]
        if not bad:
            return None
        reason = "undecodable_text"
        detail = f"column {columns.names[bad[0]]!r} holds bytes that are not UTF-8"
    return Reject(row, row, reason, detail, raw_text(b"".join(record.raw)))
