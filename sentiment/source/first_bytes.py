"""Recognises formats and encodings from the first bytes of a file."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection
from dataclasses import replace
from typing import Final

from sentiment.source.formats.lines import BOM
from sentiment.source.layout import UTF_8, Dialect, ShardFormat
from sentiment.source.options import ReadOptions

# Bytes by which UTF-16 without a mark is known.
_LOOK_BYTES: Final = 64
_MARKS: Final = (
    (BOM, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
DELIMITERS: Final = (",", "\t", ";", "|")
_SEPARATOR_LINE = re.compile(rb"sep=(.)\r?\n?")
_DECODER: Final = json.JSONDecoder()
# Objects within which an array of records is looked for.
_MAX_LEVELS: Final = 3


def encoding_of(head: bytes, options: ReadOptions) -> str:
    """Return the encoding of a text, as its first bytes or the user tell it.

    Text in one byte a letter shows only as a whole, see `delimited_index.py`.
    """
    marked = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if options.encoding is not None:
        named = codecs.lookup(options.encoding).name
        if named in ("utf-16", "utf-32"):
            return marked or f"{named}-le"
        return UTF_8 if named in ("utf-8-sig", "ascii") else named
    if marked is not None:
        return marked
    # Every second byte of Latin letters is zero in UTF-16.
    letters = head[:_LOOK_BYTES]
    if len(letters) >= 4 and not any(letters[1::2]) and all(letters[::2]):
        return "utf-16-le"
    if len(letters) >= 4 and not any(letters[::2]) and all(letters[1::2]):
        return "utf-16-be"
    return UTF_8


def binary_format(head: bytes, tail: bytes) -> ShardFormat | None:
    """Return the binary format of a file; None if it is none that is read.

    Args:
        head: Its first bytes.
        tail: Its last four bytes, if they are known.
    """
    # `PAR1` and `ORC` may be names of CSV columns. In a Parquet file the byte 15 (hexadecimal)
    # follows; ORC files end in `ORC` and one byte more.
    if head.startswith(b"PAR1\x15") or (head.startswith(b"PAR1") and tail == b"PAR1"):
        return "parquet"
    if head.startswith(b"ORC") and (tail[:3] == b"ORC" or min(head[3:16], default=32) < 9):
        return "orc"
    return "avro" if head.startswith(b"Obj\x01") else None


def starts_with_json(text: bytes) -> bool:
    """Whether a whole object or array stands at the start of a text."""
    try:
        value, _ = _DECODER.raw_decode(text.decode("utf-8", "surrogateescape").lstrip())
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)


def json_format(text: bytes, ends: bool) -> ShardFormat | None:
    """Return which kind of JSON a text is; None if it does not start like any.

    Args:
        text: First bytes of the file.
        ends: Whether these are all.
    """
    start = text.lstrip()
    if start.startswith(b"["):
        inside = start[1:].lstrip()
        return "json" if not inside or inside[:1] in b"{]" else None
    if not start.startswith(b"{") or start[1:].lstrip()[:1] not in (b'"', b"}", b""):
        return None
    decoded = start.decode("utf-8", "surrogateescape")
    first_line = decoded.find("\n")
    try:
        _, end = _DECODER.raw_decode(decoded)
    except json.JSONDecodeError as error:
        # Either the file is wrong at that place, and its lines are what can be told apart, or the
        # first value is longer than what we look at.
        is_cut = not ends and (error.msg.startswith("Untermin") or error.pos > len(decoded) - 16)
        return "json" if is_cut and 0 <= first_line < error.pos else "jsonl"
    except (ValueError, RecursionError):
        return "jsonl"
    return "json" if 0 <= first_line < end - 1 else "jsonl"


def array_start(head: bytes, text_columns: Collection[str]) -> int:
    """Return where the array of records starts in a file that is one object, as APIs return it.

    Args:
        head: First bytes of the file.
        text_columns: Keys by any of which the records are known.

    Returns:
        The number of the byte; 0 if the file is no such object.
    """
    text = head.decode("utf-8", "surrogateescape")
    begin = _after_space(text, len(text) - len(text.lstrip("\ufeff")))
    if text[begin : begin + 1] != "{":
        return 0
    try:
        value, end = _DECODER.raw_decode(text, begin)
        if not value.keys().isdisjoint(text_columns) or text[end:].strip():
            return 0  # a record, or the first of many lines
    except (ValueError, RecursionError):
        pass  # it is longer than what we look at
    place = _array_within(text, begin, text_columns, _MAX_LEVELS)
    return 0 if place is None else len(text[:place].encode("utf-8", "surrogateescape"))


def _array_within(text: str, place: int, keys: Collection[str], levels: int) -> int | None:
    """Find an array of objects that have one of these keys, among the values of an object."""
    place += 1
    while True:
        place = _after_space(text, place)
        try:
            name, place = _DECODER.raw_decode(text, place)
            place = _after_space(text, place)
            if not isinstance(name, str) or text[place : place + 1] != ":":
                return None
            place = _after_space(text, place + 1)
            if text[place : place + 1] == "[":
                inner = _after_space(text, place + 1)
                is_object = text[inner : inner + 1] == "{"
                if is_object and set(_DECODER.raw_decode(text, inner)[0]) & set(keys):
                    return place
            elif text[place : place + 1] == "{" and levels:
                found = _array_within(text, place, keys, levels - 1)
                if found is not None:
                    return found
            _, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        place = _after_space(text, place)
        if text[place : place + 1] != ",":
            return None
        place += 1


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\r", "\n"):
        place += 1
    return place


def delimited_format(text: bytes, options: ReadOptions) -> ShardFormat | None:
    """Return the format of delimited text whose first line names the text column."""
    line, _ = _header_line(text)
    for delimiter in (options.delimiter,) if options.delimiter else DELIMITERS:
        fields = _fields_of(line, delimiter)
        if len(fields) > 1 and options.texts.of(fields):
            return "tsv" if delimiter == "\t" else "csv"
    return None


def dialect_of(text: bytes, kind: ShardFormat, options: ReadOptions) -> Dialect:
    """Return the dialect of delimited text that its header row shows.

    Args:
        text: Its first bytes.
        kind: `csv` or `tsv`, which tells the usual delimiter.
        options: What the user says of it. The text column tells the delimiter.
    """
    line, separator = _header_line(text)
    usual = separator or ("\t" if kind == "tsv" else ",")
    dialect = Dialect(
        options.delimiter or usual,
        '"' if options.quote is None else options.quote,
        options.escape or "",
        options.has_header is not False,
        bool(separator),
        options.null_values,
    )
    if options.delimiter or separator or not dialect.has_header:
        return dialect
    for delimiter in (usual, *DELIMITERS):
        if options.texts.of(_fields_of(line, delimiter)):
            return replace(dialect, delimiter=delimiter)
    return dialect


def _header_line(text: bytes) -> tuple[bytes, str]:
    """Return the first line, and the delimiter that a line `sep=;` before it names; "" for none."""
    lines = (line for line in io.BytesIO(text) if not line.isspace())
    line = next(lines, b"")
    separator = _SEPARATOR_LINE.fullmatch(line)
    if separator is None:
        return line, ""
    return next(lines, b""), separator.group(1).decode("latin-1")


def _fields_of(line: bytes, delimiter: str) -> list[str]:
    """Return the fields of a line, as far as they can be told without the lines behind it."""
    text = line.decode("utf-8", "surrogateescape").strip("\r\n")
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []
