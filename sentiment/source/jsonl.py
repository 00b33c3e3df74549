"""Reads JSON Lines shards: one object per line, its keys are the columns.

The type of a column follows from all values of the shard. A missing key and `null` are both null.
Lines that are no objects, values of mixed types and lone surrogates are handled here.

Source: https://jsonlines.org
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sentiment.errors import UnusableShardError
from sentiment.source.blocks import Reject, raw_text
from sentiment.source.cut import CutFinder
from sentiment.source.lines import DamageError, Lines, LongLineError
from sentiment.source.records import TextReader
from sentiment.source.shards import Damage, Shard, ShardIndex

_INT64 = range(-(2**63), 2**63)
# Python's own limit is about 1,000 levels, less the depth of the call stack at that moment. A limit
# well below that makes all processes agree on the lines that are records.
_MAX_DEPTH = 256
# If keys are ids, every row adds columns, and the size of a block is rows times columns.
_MAX_COLUMNS = 4096
# Kinds of values, one bit each. The type of a column follows from the set of kinds in it.
_BOOL, _INT, _FLOAT, _TEXT, _OTHER = 1, 2, 4, 8, 16
_TYPES = {
    _BOOL: pa.bool_(),
    _INT: pa.int64(),
    _FLOAT: pa.float64(),
    _INT | _FLOAT: pa.float64(),
}


@dataclass(slots=True)
class _Record:
    """One line that is not blank.

    Attributes:
        offset_bytes: Where it starts in the decompressed file.
        raw: The line.
        value: The object; None if the line holds none that can be scored.
        reason: Why there is none, one of `block.REASONS`.
        detail: What exactly is wrong, without review text.
    """

    offset_bytes: int
    raw: bytes
    value: dict[str, Any] | None
    reason: str = ""
    detail: str = ""


def _records(lines: Lines) -> Iterator[_Record]:
    """Parse records from the next line on; blank lines are skipped.

    Raises:
        DamageError: The bytes end early.
    """
    while True:
        start = lines.offset_bytes
        try:
            line = lines.next_line()
        except LongLineError as error:
            yield _Record(start, error.head, None, "malformed_record", str(error))
            continue
        if not line:
            return
        if not line.isspace():
            yield _parse(start, line)


def _parse(start: int, line: bytes) -> _Record:
    reason = "malformed_record"
    try:
        value = json.loads(line.decode())
    except UnicodeDecodeError as error:
        reason, detail = "undecodable_text", f"not UTF-8 at byte {error.start} of the line"
    except json.JSONDecodeError as error:
        detail = f"no JSON at character {error.pos} of the line: {error.msg}"
    except RecursionError:
        detail = "nested too deeply"
    except ValueError:
        detail = "a number has too many digits"
    else:
        if _is_deep(line, value):
            detail = "nested too deeply"
        elif isinstance(value, dict):
            # Half of a surrogate pair, such as \ud83d alone, parses but cannot be encoded as UTF-8.
            if b"\\ud" in line or b"\\uD" in line:
                value = {_encodable(key): inside for key, inside in value.items()}
            return _Record(start, line, value)
        else:
            detail = "the line holds JSON, but no object"
    return _Record(start, line, None, reason, detail)


def _is_deep(line: bytes, value: Any) -> bool:
    """Whether a value has more than _MAX_DEPTH levels of arrays and objects."""
    if line.count(b"[") + line.count(b"{") <= _MAX_DEPTH:
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


def _encodable(text: str) -> str:
    """Return text with lone surrogates written as `\\udXXX`."""
    return text.encode("utf-8", "backslashreplace").decode()


def index_jsonl(shard: Shard, text_column: str) -> ShardIndex:
    """Count the records of a shard, note where units may start and decide the column types.

    Args:
        shard: A JSON Lines shard.
        text_column: The column to score. Its type is always string, and it is the only column if no
            line holds an object.

    Returns:
        Its index, with columns in the order of their first value. Malformed records count as rows.

    Raises:
        SourceError: There are more than _MAX_COLUMNS keys.
    """
    kinds: dict[str, int] = {}
    cuts = CutFinder()
    damage: Damage | None = None
    seen_object = False
    try:
        with Lines(shard) as lines:
            cuts.begin(0)
            for record in _records(lines):
                cuts.add(record.offset_bytes)
                if record.value is not None:
                    seen_object = True
                    for key, value in record.value.items():
                        kinds[key] = kinds.get(key, 0) | _kind(value)
                    if len(kinds) > _MAX_COLUMNS:
                        raise UnusableShardError(
                            f"{shard.uri}: its objects have more than {_MAX_COLUMNS} different "
                            "keys, each of them a column; move keys that are data into values"
                        )
    except DamageError as error:
        if cuts.rows == 0:
            damage = Damage(-1, "unreadable_file", str(error))
            return ShardIndex(shard, 0, None, damage=damage)
        damage = Damage(cuts.rows, "unreadable_rows", str(error))
    if not seen_object:
        kinds = {text_column: _TEXT}
    columns = pa.schema(
        [
            pa.field(key, pa.string() if key == text_column else _TYPES.get(kind, pa.string()))
            for key, kind in kinds.items()
        ]
    )
    return ShardIndex(shard, cuts.rows, columns, cuts.found, damage)


def _kind(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        return _INT if value in _INT64 else _OTHER
    if isinstance(value, float):
        return _FLOAT
    return _TEXT if isinstance(value, str) else _OTHER


def jsonl_reader(shard: Shard, columns: pa.Schema, text_column: str) -> TextReader[_Record]:
    """Return a reader of the units of a shard.

    A value of the text column that is neither text nor null rejects the row.

    Args:
        shard: A JSON Lines shard.
        columns: Source columns as indexed.
        text_column: The column to score.
    """
    fields = [(field.name, _converter(field.type)) for field in columns]

    def convert(row: int, record: _Record) -> list[Any] | Reject:
        _judge(record, text_column)
        converted = _converted(record, fields)
        if converted is None:
            return Reject(row, row, record.reason, record.detail, raw_text(record.raw))
        return converted

    return TextReader(shard, columns, _records, convert)


def _judge(record: _Record, text_column: str) -> None:
    """Set the reason of a record whose text cannot be scored, and remove its value."""
    text = None if record.value is None else record.value.get(text_column)
    if text is None:
        return
    if not isinstance(text, str):
        kind = {bool: "a boolean", int: "a number", float: "a number", list: "an array"}
        record.reason = "text_not_string"
        record.detail = f"{text_column!r} holds {kind.get(type(text), 'an object')}"
    elif _encodable(text) != text:
        record.reason = "undecodable_text"
        record.detail = f"{text_column!r} holds half of a surrogate pair"
    if record.reason:
        record.value = None


def _converted(record: _Record, fields: list[tuple[str, Callable[[Any], Any]]]) -> list[Any] | None:
    """Convert the values of a record to the types of the columns.

    Returns:
        One value per column; None if the record is rejected, with the reason in the record.
    """
    if record.value is None:
        return None
    get = record.value.get
    try:
        return [
            None if (value := get(name)) is None else convert(value) for name, convert in fields
        ]
    except TypeError:
        # The types follow from all values of the file, so the file has changed since.
        record.reason = "malformed_record"
        record.detail = "its values are of other types than when the file was listed"
        return None


def _converter(kind: pa.DataType) -> Callable[[Any], Any]:
    """Return the function that converts values to the type of a column.

    It raises TypeError for a value of which the index would have made another type.
    """
    if pa.types.is_string(kind):
        return _as_text
    if pa.types.is_floating(kind):
        return _as_float
    return _as_bool if pa.types.is_boolean(kind) else _as_int


def _as_float(value: Any) -> float:
    return value if type(value) is float else float(_as_int(value))


def _as_int(value: Any) -> int:
    if type(value) is int and value in _INT64:
        return value
    raise TypeError


def _as_bool(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise TypeError


def _as_text(value: Any) -> str:
    """Return text unchanged and any other value as JSON."""
    if isinstance(value, str):
        return _encodable(value)
    text = json.dumps(value, ensure_ascii=False)
    # JSON can escape a lone surrogate within a nested text.
    return text if _encodable(text) == text else json.dumps(value)
