"""Finds the records of JSON text: objects on lines, in arrays, or one after another.

Which of these a file has is decided once, from its first value (see `content.py`). In JSON Lines a
line that cannot be parsed costs itself. Elsewhere it costs the rest: nobody can tell where the next
record starts, since the text of a review may look like one.

Sources: https://jsonlines.org, RFC 8259 (https://www.rfc-editor.org/rfc/rfc8259).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sentiment.source.blocks import RAW_BYTES
from sentiment.source.formats.lines import MAX_RECORD_BYTES, DamageError, Lines, LongLineError
from sentiment.source.shards import Shard

# Python's own limit is about 1,000 levels, less the depth of the call stack at that moment. A limit
# well below that makes all processes agree on what is a record.
_MAX_DEPTH = 256
_PIECE_BYTES = 1024 * 1024
_DECODER = json.JSONDecoder()
# Between the records of a line. A comma is left where an array was cut into lines.
_BETWEEN_RECORDS = re.compile(r"[ \t\r\n]*,?[ \t\r\n]*")
# Between the values of a text: arrays are opened, closed and passed over.
_BETWEEN_VALUES = re.compile(r"[ \t\r\n,\[\]]*")


@dataclass(slots=True)
class JsonRecord:
    """One JSON value, or what stands in the place of one.

    Attributes:
        offset_bytes: Where it starts in the unpacked file.
        raw: Its bytes.
        value: The object; None if there is none that can be scored.
        reason: Why there is none, one of `block.REASONS`.
        detail: What exactly is wrong, without review text.
    """

    offset_bytes: int
    raw: bytes
    value: dict[str, Any] | None
    reason: str = ""
    detail: str = ""


def records_of(shard: Shard) -> Callable[[Lines], Iterator[JsonRecord]]:
    """Return what yields the records of a JSON shard from a record, or the start, to the end.

    It raises DamageError where the rest of the file cannot be read.
    """
    assert shard.layout is not None, f"{shard.uri}: nobody has looked how to read it"
    if shard.layout.format == "jsonl":
        return _in_lines
    return partial(_in_text, within=shard.layout.json_start > 0)


def _in_lines(lines: Lines) -> Iterator[JsonRecord]:
    """Yield the records of JSON Lines: mostly one a line, though a line may hold several."""
    rest = b""
    while True:
        line = rest + lines.next_piece(MAX_RECORD_BYTES - len(rest), stops_at_line=True)
        start = lines.offset_bytes - len(line)
        rest = b""
        if not line:
            return
        if not lines.in_line:
            if not line.isspace():
                yield from _of_line(start, line)
            continue
        found, used = _one_after_another(start, line)
        yield from found
        if used:
            rest = line[used:]
            continue
        yield _too_long(start, line)
        lines.skip_line()


def _of_line(start: int, line: bytes) -> Iterator[JsonRecord]:
    """Yield the records of a whole line. What cannot be parsed is one record, with what is behind.

    Producers such as Firehose put records one after another without a line end.
    """
    whole = _parse(start, line)
    if whole.value is not None:
        yield whole
        return
    found, used = _one_after_another(start, line)
    if not any(record.value is not None for record in found):
        yield whole
        return
    yield from found
    if rest := line[used:].strip():
        yield _parse(start + used, rest)


def _one_after_another(start: int, line: bytes) -> tuple[list[JsonRecord], int]:
    """Find the objects at the start of a line.

    An object counts if another one or the end of the line follows. With anything else behind it, it
    may be a part of something that is broken.

    Returns:
        Their records, and the number of bytes they take, with what is between them.
    """
    text = line.decode("utf-8", "surrogateescape")
    found: list[JsonRecord] = []
    used, place = 0, 0
    while True:
        begin = _end_of(_BETWEEN_RECORDS, text, place)
        if begin == len(text):
            return found, len(line)
        if text[begin] != "{":
            return found, used
        try:
            value, end = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return found, used
        follows = _end_of(_BETWEEN_RECORDS, text, end)
        if follows < len(text) and text[follows] != "{":
            return found, used
        used += begin - place
        raw = text[begin:end].encode("utf-8", "surrogateescape")
        found.append(_found(start + used, raw, value))
        used += len(raw)
        place = end


def _in_text(lines: Lines, within: bool) -> Iterator[JsonRecord]:
    """Yield the values of a text, those of arrays one by one, wherever its lines end.

    Args:
        lines: The text, from a value on.
        within: Whether the values are an array within an object, and end where it ends.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text, place, arrays = "", 0, 0
    start = lines.offset_bytes

    def more() -> str:
        """Return what is left of the text, and at least as much again."""
        rest = text[place:]
        wanted, pieces = max(_PIECE_BYTES, len(rest)), [rest]
        while wanted > 0 and not lines.at_end:
            piece = lines.next_piece(wanted)
            wanted -= len(piece)
            pieces.append(decoder.decode(piece, final=lines.at_end))
        return "".join(pieces)

    while True:
        begin = _end_of(_BETWEEN_VALUES, text, place)
        closed = text.count("]", place, begin)
        arrays += text.count("[", place, begin) - closed
        if within and closed and arrays <= 0:
            return
        start += begin - place
        place = begin
        if place == len(text):
            if lines.at_end:
                break
            text, place = more(), 0
            continue
        try:
            value, end = _DECODER.raw_decode(text, place)
            problem = "" if _ends_there(text, end) else "more than white space follows a value"
        except (ValueError, RecursionError) as error:
            end, problem = len(text), getattr(error, "msg", "it is nested too deeply or too large")
        # A number may go on behind the end of the text, and so may all that does not parse.
        if (problem or end == len(text)) and not lines.at_end:
            if len(text) - place < MAX_RECORD_BYTES:
                text, place = more(), 0
                continue
            problem = f"a record is longer than {MAX_RECORD_BYTES} bytes, or is no JSON"
        raw = text[place:end].encode("utf-8", "surrogateescape")
        if not problem and len(raw) > MAX_RECORD_BYTES:
            problem = f"a record is longer than {MAX_RECORD_BYTES} bytes"
        if problem:
            raise DamageError(f"no record can be read from byte {start} on: {problem}")
        yield _found(start, raw, value)
        start += len(raw)
        place = end
    if arrays > 0:
        raise DamageError("the file ends within an array")


def _end_of(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    assert found is not None, "it matches nothing, too"
    return found.end()


def _ends_there(text: str, end: int) -> bool:
    return end == len(text) or text[end] in " \t\r\n,]{["


def _too_long(start: int, line: bytes) -> JsonRecord:
    detail = str(LongLineError(b""))
    return JsonRecord(start, line[:RAW_BYTES], None, "malformed_record", detail)


def _parse(start: int, raw: bytes) -> JsonRecord:
    reason = "malformed_record"
    try:
        return _judged(start, raw, json.loads(raw.decode()))
    except UnicodeDecodeError as error:
        reason, detail = "undecodable_text", f"not UTF-8 at byte {error.start} of the record"
    except json.JSONDecodeError as error:
        detail = f"no JSON at character {error.pos} of the record: {error.msg}"
    except RecursionError:
        detail = "nested too deeply"
    except ValueError:
        detail = "a number has too many digits"
    return JsonRecord(start, raw, None, reason, detail)


def _found(start: int, raw: bytes, value: Any) -> JsonRecord:
    """Return the record of a value that was parsed, whatever bytes its texts hold."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        detail = f"not UTF-8 at byte {error.start} of the record"
        return JsonRecord(start, raw, None, "undecodable_text", detail)
    return _judged(start, raw, value)


def _judged(start: int, raw: bytes, value: Any) -> JsonRecord:
    """Return the record of a value that was parsed."""
    if not isinstance(value, dict):
        return JsonRecord(start, raw, None, "malformed_record", "it is JSON, but no object")
    if _is_deep(raw, value):
        return JsonRecord(start, raw, None, "malformed_record", "nested too deeply")
    # Half of a surrogate pair, such as \ud83d alone, parses but cannot be encoded as UTF-8.
    if b"\\ud" in raw or b"\\uD" in raw:
        value = {encodable(key): inside for key, inside in value.items()}
    return JsonRecord(start, raw, value)


def _is_deep(raw: bytes, value: Any) -> bool:
    """Whether a value has more than _MAX_DEPTH levels of arrays and objects."""
    if raw.count(b"[") + raw.count(b"{") <= _MAX_DEPTH:
        return False
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > _MAX_DEPTH:
            return True
    return False


def _inside(value: Any) -> Iterable[Any]:
    """Return the values of an array or object; none of any other value."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def encodable(text: str) -> str:
    """Return text with lone surrogates written as `\\udXXX`."""
    return text.encode("utf-8", "backslashreplace").decode()
