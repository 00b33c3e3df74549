"""Recognises formats and encodings from the first bytes of a file."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final

from sentiment.source.formats.delimited_index import DELIMITERS, fields_of
from sentiment.source.formats.lines import BOM
from sentiment.source.layout import UTF_8, ShardFormat
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


def encoding_of(head: bytes, options: ReadOptions) -> str:
    """Return the encoding of a text, as its first bytes or the user tell it.

    Text in one byte a letter shows only as a whole, see `delimited.py`.
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
    # `PAR1` and `ORC` may be names of CSV columns. In a Parquet file the byte 15 (hexadecimal)
    # follows; ORC files end in `ORC` and one byte more.
    if head.startswith(b"PAR1\x15") or (head.startswith(b"PAR1") and tail == b"PAR1"):
        return "parquet"
    if head.startswith(b"ORC") and (tail[:3] == b"ORC" or min(head[3:16], default=32) < 9):
        return "orc"
    return "avro" if head.startswith(b"Obj\x01") else None


def first_value(text: bytes) -> dict[str, Any] | list[Any] | None:
    """Return the JSON object or array at the start; None if there is none, or its end is cut."""
    decoded = text.decode("utf-8", "surrogateescape").lstrip()
    try:
        value, _ = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


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
        _, end = json.JSONDecoder().raw_decode(decoded)
    except json.JSONDecodeError as error:
        # Either the file is wrong at that place, and its lines are what can be told apart, or the
        # first value is longer than what we look at.
        is_cut = not ends and (error.msg.startswith("Untermin") or error.pos > len(decoded) - 16)
        return "json" if is_cut and 0 <= first_line < error.pos else "jsonl"
    except (ValueError, RecursionError):
        return "jsonl"
    return "json" if 0 <= first_line < end - 1 else "jsonl"


def delimited_format(text: bytes, options: ReadOptions) -> ShardFormat | None:
    """Return the format of delimited text whose first line names the text column."""
    lines = (line for line in text.splitlines() if not line.isspace() and line)
    line = next(lines, b"")
    if line.startswith(b"sep="):
        line = next(lines, b"")
    for delimiter in (options.delimiter,) if options.delimiter else DELIMITERS:
        fields = fields_of(line, delimiter)
        if len(fields) > 1 and options.text_column in fields:
            return "tsv" if delimiter == "\t" else "csv"
    return None
