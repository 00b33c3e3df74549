"""Reads CSV and TSV shards: records as in RFC 4180, with a header row.

Every value is a string; types and dialects are not guessed. An empty field is the empty string, as
the format has no null.

Source: RFC 4180, https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from sentiment.source.blocks import RAW_BYTES, Reject, raw_text
from sentiment.source.cut import CutFinder
from sentiment.source.formats.lines import MAX_RECORD_BYTES, DamageError, Lines, LongLineError
from sentiment.source.formats.records import TextReader
from sentiment.source.formats.surrogates import is_utf8, shown
from sentiment.source.shards import Damage, Shard, ShardIndex


@dataclass(slots=True)
class _Record:
    """One record, parsed or not.

    Attributes:
        offset_bytes: Where it starts in the decompressed file.
        fields: Values, with bytes that are not UTF-8 as lone surrogates; None if the record does
            not parse.
        problem: Why it does not parse.
        raw: Its lines, up to the size that a reject shows.
        valid: Whether all of it is UTF-8.
    """

    offset_bytes: int
    fields: list[str] | None
    problem: str
    raw: list[bytes]
    valid: bool


class _Text:
    """Decodes lines for the csv module, and keeps the lines of the current record for rejects."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self.start()

    def start(self) -> None:
        """Start a new record: drop the lines of the one before."""
        self.raw: list[bytes] = []
        self.valid = True
        self._raw_bytes = 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        line = self._lines.next_line()
        if not line:
            raise StopIteration
        # A quote that is never closed makes the rest of the file one record: keep what a reject
        # shows.
        if self._raw_bytes <= RAW_BYTES:
            self.raw.append(line)
            self._raw_bytes += len(line)
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.valid = False
            return line.decode("utf-8", "surrogateescape")


def _records(lines: Lines, delimiter: str, width: int = 0) -> Iterator[_Record]:
    """Parse records from the next line on.

    A blank line is skipped, but where there is one column only: there it is a record whose field is
    empty, and nothing else could say so without quotes. Where a file ends, blank lines are skipped
    everywhere: editors leave them there.

    Args:
        lines: The lines of the file.
        delimiter: Between fields.
        width: Number of columns; 0 before the header is read.

    Raises:
        DamageError: A quote is never closed, or the bytes end early.
    """
    # The csv module has one limit for the whole process, in characters; the default is 131,072.
    csv.field_size_limit(MAX_RECORD_BYTES)
    text = _Text(lines)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    blank = array("q")  # where the blank lines start that may be records
    while True:
        text.start()
        start = lines.offset_bytes
        fields, problem = None, ""
        try:
            fields = next(reader)
        except StopIteration:
            return
        except LongLineError as error:
            problem = str(error)
            text.raw.append(error.head)
        except csv.Error as error:
            # After an error the csv module starts a new record with the next line.
            if lines.at_end:
                raise DamageError("a quote is opened and never closed") from error
            if "field limit" in str(error):
                raise DamageError(
                    f"a quote is opened and not closed within {MAX_RECORD_BYTES} bytes"
                ) from error
            # Python adds advice for programmers after a dash, which does not help a user.
            problem = str(error).partition(" - ")[0]
        if fields == []:
            if width == 1:
                blank.append(start)
            continue
        for place in blank:
            yield _Record(place, [""], "", [], valid=True)
        del blank[:]
        yield _Record(start, fields, problem, text.raw, text.valid)


def _delimiter(shard: Shard) -> str:
    return "\t" if shard.layout is not None and shard.layout.format == "tsv" else ","


def index_delimited(shard: Shard, text_column: str) -> ShardIndex:
    """Count the records of a CSV or TSV shard and note where units may start.

    Args:
        shard: The shard.
        text_column: The only column, if the file is empty.

    Returns:
        Its index; every column is a string. Malformed records count as rows.
    """
    cuts = CutFinder()
    columns: pa.Schema | None = None
    try:
        with Lines(shard) as lines:
            delimiter = _delimiter(shard)
            names = _header(_records(lines, delimiter)) or [text_column]
            columns = pa.schema([pa.field(name, pa.string()) for name in names])
            cuts.begin(lines.offset_bytes)
            for record in _records(lines, delimiter, len(names)):
                cuts.add(record.offset_bytes)
    except DamageError as error:
        if columns is None:
            damage = Damage(-1, "unreadable_file", str(error))
        else:
            damage = Damage(cuts.rows, "unreadable_rows", str(error))
        return ShardIndex(shard, cuts.rows, columns, cuts.found, damage)
    return ShardIndex(shard, cuts.rows, columns, cuts.found)


def _header(records: Iterator[_Record]) -> list[str]:
    """Read the column names from the first record; none if the file is empty.

    Raises:
        DamageError: The header row does not parse.
    """
    header = next(records, None)
    if header is None:
        return []
    if header.fields is None:
        # The usual cause: line ends of a bare carriage return, which Python's csv module refuses.
        if b"\r" in header.raw[0].rstrip(b"\r\n"):
            raise DamageError(
                "the header row holds a bare carriage return; end lines in LF or CRLF"
            )
        raise DamageError(f"the header row does not parse: {header.problem}")
    if any("\0" in name for name in header.fields):
        raise DamageError("the header row holds zero bytes: the file is no UTF-8 text")
    return [shown(name) for name in header.fields]


def delimited_reader(shard: Shard, columns: pa.Schema, text_column: str) -> TextReader[_Record]:
    """Return a reader of the units of a CSV or TSV shard.

    Bytes that are not UTF-8 reject the row if they are in the text column; in other columns they
    become `\\xNN` and the row stays good.

    Args:
        shard: A CSV or TSV shard.
        columns: Source columns as indexed.
        text_column: The column to score.
    """
    delimiter, width = _delimiter(shard), len(columns)
    text_index = columns.get_field_index(text_column)

    def convert(row: int, record: _Record) -> list[str] | Reject:
        reject = _judge(record, row, text_index, columns)
        if reject is not None:
            return reject
        assert record.fields is not None
        return record.fields if record.valid else [shown(value) for value in record.fields]

    return TextReader(shard, columns, lambda lines: _records(lines, delimiter, width), convert)


def _judge(record: _Record, row: int, text_index: int, columns: pa.Schema) -> Reject | None:
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
