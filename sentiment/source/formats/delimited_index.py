"""Indexes CSV, TSV and other delimited text, and finds out its dialect.

A dialect is found out from the whole file, in the pass that counts its rows: what stands in a head
does not show how a quote in row 300,000 is meant. It is changed only where the usual one does not
fit, and another one fits better.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from sentiment.source.cut import CutFinder
from sentiment.source.formats.clean_text import Stretch, records_and_stretches, shape_of
from sentiment.source.formats.delimited_records import (
    DelimitedRecord,
    OpenQuoteError,
    first_line,
    parse,
)
from sentiment.source.formats.lines import DamageError, Lines, LongLineError
from sentiment.source.formats.surrogates import shown
from sentiment.source.layout import UTF_8, Dialect, Layout
from sentiment.source.options import ReadOptions
from sentiment.source.shards import Damage, Shard, ShardIndex

_QUOTED = re.compile(rb'"(?:[^"]|"")*"')
# What bytes beyond ASCII are in reviews in a European language. Any other byte shows that the file
# is not in this encoding, or is damaged; and so do many of them in a row.
_EUROPEAN: Final = "cp1252"
_PLAUSIBLE = re.compile(
    rb"(?:[\x00-\x7f]|[\x80\x82-\x85\x89-\x8c\x8e\x91-\x97\x99-\x9c\x9e-\xa3\xa5\xa7-\xd6\xd8-\xf6"
    rb"\xf8-\xff]{1,3}(?![\x80-\xff]))*"
)


class _WatchedLines(Lines):
    """Lines that note what they show of the dialect and the encoding.

    Attributes:
        have_escapes: Whether a backslash stands before a quote.
        have_doubled: Whether a quote is doubled within a text, as quoted fields have it.
        have_quoted: Whether a field on one line is in quotes and has doubled ones within.
        have_stray: Whether a field, seen on one line, has quotes that are not as in quoted fields.
        fit: Whether every line has the same number of tabs, where tabs are the delimiters.
        are_utf8: Whether there is text beyond ASCII in UTF-8.
        are_european: Whether there is text beyond ASCII in the European encoding.
        are_odd: Whether there is text beyond ASCII in neither.
    """

    def __init__(self, shard: Shard, offset_bytes: int = 0) -> None:
        super().__init__(shard, offset_bytes)
        self.watch("", 1)

    def watch(self, delimiter: str, width: int) -> None:
        """Note what the lines show from the next one on.

        Args:
            delimiter: Between fields. Quotes are looked at where it is a tab.
            width: Fields of a record.
        """
        self._has_tabs = delimiter == "\t"
        self._count = width - 1
        self.have_doubled = self.have_quoted = self.have_stray = False
        self.have_escapes = self.are_utf8 = self.are_european = self.are_odd = False
        self.fit = True

    def next_line(self) -> bytes:
        try:
            line = super().next_line()
        except LongLineError:
            self.fit = False
            raise
        if b'\\"' in line:
            self.have_escapes = True
        if self._has_tabs:
            self._look_at_fields(line)
        if not line.isascii():
            self._look_at_letters(line)
        return line

    def watch_stretch(self, stretch: Stretch) -> None:
        """Note what clean records show, as if their lines had been read.

        Only quotes can make them less fit than lines can be.
        """
        content, end = stretch.content, stretch.size_bytes
        if self._has_tabs and content.find(b'"', 0, end) >= 0:
            for line in content[:end].split(b"\n")[:-1]:
                self._look_at_fields(line)
        if not self.have_escapes and content.find(b"\\", 0, end) >= 0:
            self.have_escapes = content.find(b'\\"', 0, end) >= 0
        if not self.are_utf8 and not content.isascii():
            self.are_utf8 = not content[:end].isascii()

    def _look_at_fields(self, line: bytes) -> None:
        if line.count(b"\t") != self._count and line and not line.isspace():
            self.fit = False
        if b'"' in line:
            self._look_at_quotes(line.rstrip(b"\r\n"))

    def _look_at_quotes(self, line: bytes) -> None:
        for value in line.split(b"\t"):
            if b'"' not in value:
                continue
            is_doubled = b'""' in value[1:-1]
            self.have_doubled |= is_doubled
            if not _QUOTED.fullmatch(value):
                self.have_stray = True
            elif is_doubled:
                self.have_quoted = True

    def _look_at_letters(self, line: bytes) -> None:
        try:
            line.decode()
            self.are_utf8 = True
        except UnicodeDecodeError:
            if _PLAUSIBLE.fullmatch(line):
                self.are_european = True
            else:
                self.are_odd = True


@dataclass(frozen=True)
class _Scan:
    """What one pass over a file has shown.

    Attributes:
        layout: How it was read.
        names: Names of the columns; none if there is no record.
        rows: Its rows.
        cuts: Where units may start.
        damage: Why it could not be read to its end.
        broken: Records that do not parse, an open quote included.
        spanning: Records of several lines.
        lines: The lines, which tell more.
    """

    layout: Layout
    names: tuple[str, ...]
    rows: int = 0
    cuts: tuple[tuple[int, int | None], ...] = ((0, None),)
    damage: DamageError | None = None
    broken: int = 0
    spanning: int = 0
    lines: _WatchedLines | None = None

    @property
    def dialect(self) -> Dialect:
        """How it was read."""
        assert self.layout.dialect is not None, "delimited text has one"
        return self.layout.dialect


def index_delimited(shard: Shard, options: ReadOptions) -> ShardIndex:
    """Count the records of delimited text, note where units may start, and find out its dialect.

    Args:
        shard: The shard. Its layout has the dialect that the header row shows.
        options: What the user says of it.

    Returns:
        Its index; every column is a string. Malformed records count as rows.
    """
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    try:
        scan = _scan(shard, shard.layout)
        scan = _with_better_quotes(shard, scan, options)
        if options.encoding is None and _is_european(scan):
            scan = _scan(shard, replace(scan.layout, encoding=_EUROPEAN))
    except DamageError as error:
        return ShardIndex(shard, 0, None, damage=Damage(-1, "unreadable_file", str(error)))
    names = scan.names or options.texts.names[:1]
    columns = pa.schema([pa.field(name, pa.string()) for name in names])
    damage = None
    if scan.damage is not None:
        damage = Damage(scan.rows, "unreadable_rows", str(scan.damage))
    shard = replace(shard, layout=scan.layout)
    return ShardIndex(shard, scan.rows, columns, scan.cuts, damage)


def _is_european(scan: _Scan) -> bool:
    found = scan.lines
    if found is None or scan.layout.encoding != UTF_8:
        return False
    return found.are_european and not (found.are_utf8 or found.are_odd)


def _with_better_quotes(shard: Shard, scan: _Scan, options: ReadOptions) -> _Scan:
    """Read the file again in another dialect, if quotes do not fit in the usual one.

    Two others are known. Spark writes a backslash before quotes. Plain TSV quotes nothing: then
    every single line has the fields of a record, and some have quotes where a writer that quotes
    would have put them in quotes and doubled them.

    Returns:
        The better pass.
    """
    dialect, found = scan.dialect, scan.lines
    if not dialect.quote or found is None:
        return scan
    may_be_plain = options.quote is None and dialect.delimiter == "\t" and len(scan.names) > 1
    has_line_ends = found.have_doubled and scan.spanning > scan.broken
    if may_be_plain and found.fit and found.have_stray and not (found.have_quoted or has_line_ends):
        return _scan(shard, replace(scan.layout, dialect=replace(dialect, quote="")))
    if options.escape is None and found.have_escapes and scan.broken:
        escaped = _scan(shard, replace(scan.layout, dialect=replace(dialect, escape="\\")))
        if escaped.broken < scan.broken:
            return escaped
    return scan


def _scan(shard: Shard, layout: Layout) -> _Scan:
    """Read a file from its start to its end.

    Raises:
        DamageError: Its header row cannot be read.
    """
    assert layout.dialect is not None, "delimited text has one"
    shard = replace(shard, layout=layout)
    with _WatchedLines(shard) as lines:
        header, start = _header(lines, layout.dialect)
        if not header:
            return _Scan(layout, ())
        names = list(header)
        while len(names) > 1 and not names[-1] and layout.dialect.has_header:
            del names[-1]
        blank_columns = len(header) - len(names)
        if lines.offset_bytes == start:
            scan, uses_blank_columns = _read_through(lines, layout, tuple(names), blank_columns)
            if not uses_blank_columns:
                return scan
    with _WatchedLines(shard, start) as lines:
        return _read_through(lines, layout, header, 0)[0]


def _read_through(
    lines: _WatchedLines, layout: Layout, names: tuple[str, ...], blank_columns: int
) -> tuple[_Scan, bool]:
    """Read all records.

    Args:
        lines: The lines, from the first record on.
        layout: How to read them.
        names: Names of the columns.
        blank_columns: Columns behind them without a name.

    Returns:
        What they show, and whether columns without a name hold anything.
    """
    assert layout.dialect is not None, "delimited text has one"
    dialect = replace(layout.dialect, blank_columns=blank_columns)
    width = len(names) + blank_columns
    cuts, damage, broken, spanning, uses_blank = CutFinder(), None, 0, 0, False
    lines.watch(dialect.delimiter, width)
    cuts.begin(lines.offset_bytes)
    shape = shape_of(dialect, names)
    try:
        for record in records_and_stretches(lines, dialect, names, shape, take=lambda one: one):
            if isinstance(record, Stretch):
                lines.watch_stretch(record)
                cuts.add_all(record.starts)
                if dialect.delimiter == "\t":  # elsewhere nobody asks
                    spanning += record.spanning
                continue
            cuts.add(record.offset_bytes)
            spanning += record.lines > 1
            if record.fields is None:
                broken += 1
            elif blank_columns and len(record.fields) == width:
                uses_blank = True
    except DamageError as error:
        damage = error
        if isinstance(error, OpenQuoteError):
            broken += 1
            _read_on(lines)
    layout = replace(layout, dialect=dialect)
    scan = _Scan(layout, names, cuts.rows, cuts.found, damage, broken, spanning, lines)
    return scan, uses_blank


def _read_on(lines: Lines) -> None:
    """Let lines be watched to the end of the file."""
    while not lines.at_end:
        try:
            lines.next_line()
        except LongLineError:
            continue
        except DamageError:
            return


def _header(lines: Lines, dialect: Dialect) -> tuple[tuple[str, ...], int]:
    """Read the names of the columns.

    Returns:
        The names, none if the file is empty; and where the first row starts.

    Raises:
        DamageError: The header row does not parse.
    """
    if dialect.has_separator_line:
        first_line(lines)
    start = lines.offset_bytes
    for record in parse(lines, dialect):
        if record.fields == []:
            start = lines.offset_bytes
            continue
        if not dialect.has_header:
            width = len(record.fields or [""])
            return tuple(f"column_{number}" for number in range(1, width + 1)), start
        return tuple(_names_in(record)), lines.offset_bytes
    return (), start


def _names_in(header: DelimitedRecord) -> list[str]:
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
