"""Finds the records of delimited text, in any dialect.

Python's csv module parses the fields. Here is what it does not do: escapes as Spark writes them,
finding a record again after one that is broken, repeated headers, and records without anything in
them where a spreadsheet ends.

Source: RFC 4180, https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sentiment.source.blocks import RAW_BYTES
from sentiment.source.formats.lines import MAX_RECORD_BYTES, DamageError, Lines, LongLineError
from sentiment.source.layout import Dialect

_MARK = "\ufeff"
# Records after a broken one that are held back until it is clear where it ends.
_MOST_DOUBTFUL = 1000
_ESCAPED = re.compile(r"\\(.)|\\\Z", re.DOTALL)
_UNTIL_QUOTE = re.compile(r'(?:[^"\\]|\\.|\\\Z)*', re.DOTALL)


class OpenQuoteError(DamageError):
    """A quote is opened and not closed: where records end from there on is anyone's guess."""


@dataclass(slots=True)
class DelimitedRecord:
    """One record, parsed or not.

    Attributes:
        offset_bytes: Where it starts in the unpacked file.
        fields: Values, with bytes that are not UTF-8 as lone surrogates; None if the record does
            not parse.
        problem: Why it does not parse.
        raw: Its lines, up to the size that a reject shows.
        valid: Whether all of it is UTF-8.
        lines: Number of its lines.
        quotes: Number of quotes in it.
        end_bytes: Where the next one starts in the unpacked file.
    """

    offset_bytes: int
    fields: list[str] | None
    problem: str
    raw: list[bytes]
    valid: bool
    lines: int = 1
    quotes: int = 0
    end_bytes: int = -1


class _Text:
    """Decodes lines for the csv module, and keeps the lines of the current record for rejects."""

    def __init__(self, lines: Lines, dialect: Dialect) -> None:
        self._lines = lines
        self._dialect = dialect
        self._quote = dialect.quote.encode()
        self.start()

    def start(self) -> None:
        """Start a new record: drop the lines of the one before."""
        self.raw: list[bytes] = []
        self.valid = True
        self.lines = self.quotes = 0
        self._raw_bytes = 0

    def __iter__(self) -> _Text:
        return self

    def __next__(self) -> str:
        line = self._lines.next_line()
        if not line:
            raise StopIteration
        is_within_quotes = self.lines > 0  # the csv module asks for more: a quote is open
        self.lines += 1
        if self._quote:
            self.quotes += line.count(self._quote)
        # A quote that is never closed makes the rest of the file one record: keep what a reject
        # shows.
        if self._raw_bytes <= RAW_BYTES:
            self.raw.append(line)
            self._raw_bytes += len(line)
        try:
            text = line.decode()
        except UnicodeDecodeError:
            self.valid = False
            text = line.decode("utf-8", "surrogateescape")
        if self._dialect.escape == "\\" and "\\" in text:
            return _for_csv_module(text, self._dialect, is_within_quotes)
        return text


def _for_csv_module(line: str, dialect: Dialect, is_within_quotes: bool) -> str:
    r"""Return a line with the backslashes doubled that escape nothing.

    Within quotes, Spark escapes quotes and backslashes, and a backslash before anything else stands
    for itself, as all do outside of quotes. To the csv module a backslash always escapes.
    """
    done, place = [], 0
    while place < len(line):
        if is_within_quotes:
            found = _UNTIL_QUOTE.match(line, place)
            assert found is not None, "it matches nothing, too"
            done.append(_ESCAPED.sub(_doubled, found.group()))
            end = found.end()
            done.append(line[end : end + 1])  # the quote
            place, is_within_quotes = end + 1, False
            continue
        end = line.find(dialect.delimiter, place)
        if line[place] == dialect.quote:
            done.append(dialect.quote)
            place, is_within_quotes = place + 1, True
            continue
        end = len(line) if end < 0 else end + 1
        done.append(line[place:end].replace("\\", "\\\\"))
        place = end
    return "".join(done)


def _doubled(found: re.Match[str]) -> str:
    escaped = found.group(1)
    return found.group() if escaped in ('"', "\\") else "\\\\" + (escaped or "")


def first_line(lines: Lines) -> bytes:
    """Return the next line that is not blank; b"" if there is none.

    Raises:
        DamageError: The bytes end early, or the line is too long.
    """
    try:
        while (line := lines.next_line()) and line.isspace():
            pass
    except LongLineError as error:
        raise DamageError(f"the header row is no header: {error}") from error
    return line


def parse(lines: Lines, dialect: Dialect) -> Iterator[DelimitedRecord]:
    """Parse records from the next line on. A blank line is a record without fields.

    Raises:
        DamageError: A quote is never closed, or the bytes end early.
    """
    # The csv module has one limit for the whole process, in characters; the default is 131,072.
    csv.field_size_limit(MAX_RECORD_BYTES)
    text = _Text(lines, dialect)
    reader = csv.reader(
        text,
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
        strict=True,
    )
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
                raise OpenQuoteError("a quote is opened and never closed") from error
            if "field limit" in str(error):
                raise OpenQuoteError(
                    f"a quote is opened and not closed within {MAX_RECORD_BYTES} bytes"
                ) from error
            # Python adds advice for programmers after a dash, which does not help a user.
            problem = str(error).partition(" - ")[0]
        yield DelimitedRecord(
            start,
            fields,
            problem,
            text.raw,
            text.valid,
            text.lines,
            text.quotes,
            lines.offset_bytes,
        )


def records(lines: Lines, dialect: Dialect, names: Sequence[str]) -> Iterator[DelimitedRecord]:
    """Yield the records that are rows.

    Blank lines are none, but where there is one column only: there such a line is a record whose
    field is empty, and nothing else could say so without quotes. Where a file ends, blank lines are
    none anywhere: editors leave them there. So do spreadsheets with records of delimiters alone,
    where the header has blank columns. A record that repeats the header is none: files with headers
    were put together.

    Args:
        lines: The lines of the file, from a record on.
        dialect: How it is written.
        names: Names of the columns, without the blank ones.

    Raises:
        DamageError: A quote is never closed, or the bytes end early.
    """
    blank_columns = dialect.blank_columns
    header = [*names, *[""] * blank_columns] if dialect.has_header else None
    held: list[DelimitedRecord] = []  # without anything in them; rows only if others follow
    for record in _told_apart(parse(lines, dialect)):
        fields = record.fields
        is_left_over = bool(blank_columns) and fields is not None and _is_blank(fields, record)
        if fields == [] or is_left_over:
            if fields or len(names) == 1:
                record.fields = (fields or [""])[: len(names)]
                held.append(record)
            continue
        if fields is not None:
            if _repeats(fields, header):
                continue
            if len(fields) == len(names) + blank_columns and not any(fields[len(names) :]):
                record.fields = fields[: len(names)]
        yield from held
        held.clear()
        yield record


def _is_blank(fields: list[str], record: DelimitedRecord) -> bool:
    return len(fields) > 1 and not any(fields) and not record.quotes


def _repeats(fields: list[str], header: list[str] | None) -> bool:
    """Whether a record is the header once more. With one column, its mark has to show it."""
    if header is None or len(fields) != len(header):
        return False
    is_marked = fields[0].startswith(_MARK)
    same = [fields[0].removeprefix(_MARK), *fields[1:]] == header
    return same and (is_marked or len(header) > 1)


@dataclass
class _Doubt:
    """A broken record with quotes in it, and the records behind it, which may be a part of it."""

    broken: DelimitedRecord
    behind: list[DelimitedRecord] = field(default_factory=list)

    def merged(self, last: DelimitedRecord) -> DelimitedRecord:
        """Return all of it as one broken record."""
        parts = [self.broken, *self.behind, last]
        raw: list[bytes] = []
        for part in parts:
            if sum(map(len, raw)) <= RAW_BYTES:
                raw += part.raw
        return DelimitedRecord(
            self.broken.offset_bytes,
            None,
            f"{self.broken.problem}; its quotes end {sum(one.lines for one in parts) - 1} lines "
            "later",
            raw,
            all(part.valid for part in parts),
            sum(part.lines for part in parts),
            end_bytes=last.end_bytes,
        )


def _told_apart(parsed: Iterator[DelimitedRecord]) -> Iterator[DelimitedRecord]:
    """Make one record of the lines of a broken one.

    The csv module goes on with the next line, which may still be a part of the text: `"He said "no"
    and left` ends where its last quote is. So records behind a broken one are held back. If one of
    them has a quote too many, all up to it were one text. If one has fields in quotes, or the file
    ends, they were records. If the rest cannot be read, nobody knows, and they are lost with it.
    """
    doubt: _Doubt | None = None
    for record in parsed:
        if doubt is None:
            if record.fields is None and record.quotes:
                doubt = _Doubt(record)
            else:
                yield record
        elif record.quotes % 2:
            yield doubt.merged(record)
            doubt = None
        elif record.fields is None and record.quotes:
            yield doubt.broken
            yield from doubt.behind
            doubt = _Doubt(record)
        else:
            doubt.behind.append(record)
            if record.quotes or len(doubt.behind) >= _MOST_DOUBTFUL:
                yield doubt.broken
                yield from doubt.behind
                doubt = None
    if doubt is not None:
        yield doubt.broken
        yield from doubt.behind
