"""Reads JSON shards: objects are rows, their keys are the columns.

The type of a column follows from all values of the shard. A missing key and `null` are both null.
Values of mixed types and lone surrogates are handled here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from sentiment.errors import UnusableShardError
from sentiment.source.blocks import Reject, raw_text
from sentiment.source.cut import CutFinder
from sentiment.source.formats.json_records import JsonRecord, encodable, records_of
from sentiment.source.formats.lines import DamageError, Lines
from sentiment.source.formats.records import TextReader
from sentiment.source.shards import Damage, Shard, ShardIndex
from sentiment.texts import TextColumns

_INT64 = range(-(2**63), 2**63)
_IN_FLOAT = range(-(2**53), 2**53 + 1)
# If keys are ids, every row adds columns, and the size of a block is rows times columns.
_MAX_COLUMNS = 4096
# Kinds of values, one bit each. The type of a column follows from the set of kinds in it.
_BOOL, _INT, _WIDE_INT, _FLOAT, _TEXT, _OTHER = 1, 2, 4, 8, 16, 32
# A wide integer has more digits than a float. Beside floats it is text.
_TYPES = {
    0: pa.null(),
    _BOOL: pa.bool_(),
    _INT: pa.int64(),
    _WIDE_INT: pa.int64(),
    _INT | _WIDE_INT: pa.int64(),
    _FLOAT: pa.float64(),
    _INT | _FLOAT: pa.float64(),
}


def index_json(shard: Shard, texts: TextColumns) -> ShardIndex:
    """Count the records of a shard, note where units may start and decide the column types.

    Args:
        shard: A JSON shard.
        texts: The columns to score. Their type is always string, and the first is the only column
            if no line holds an object.

    Returns:
        Its index, with columns in the order of their first value, the text column last if no value
        has it. Malformed records count as rows.

    Raises:
        SourceError: There are more than _MAX_COLUMNS keys.
    """
    kinds: dict[str, int] = {}
    cuts = CutFinder()
    damage: Damage | None = None
    seen_object = False
    try:
        start = 0 if shard.layout is None else shard.layout.json_start
        with Lines(shard, start) as lines:
            cuts.begin(start)
            for record in records_of(shard)(lines):
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
    lacks_text = seen_object and not texts.of(kinds)
    if not texts.of(kinds):
        kinds[texts.names[0]] = _TEXT
    scored = texts.of(kinds)
    columns = pa.schema(
        [
            pa.field(key, pa.string() if key in scored else _TYPES.get(kind, pa.string()))
            for key, kind in kinds.items()
        ]
    )
    wide = frozenset(key for key, kind in kinds.items() if kind in (_WIDE_INT, _INT | _WIDE_INT))
    return ShardIndex(
        shard, cuts.rows, columns, cuts.found, damage, wide_columns=wide, lacks_text=lacks_text
    )


def _kind(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, bool):
        return _BOOL
    if isinstance(value, int):
        if value in _IN_FLOAT:
            return _INT
        return _WIDE_INT if value in _INT64 else _OTHER
    if isinstance(value, float):
        return _FLOAT
    return _TEXT if isinstance(value, str) else _OTHER


def json_reader(shard: Shard, columns: pa.Schema, texts: Sequence[str]) -> TextReader[JsonRecord]:
    """Return a reader of the units of a shard.

    A value of a text column that is neither text nor null rejects the row.

    Args:
        shard: A JSON shard.
        columns: Source columns as indexed.
        texts: Its columns that are scored.
    """
    fields = [(field.name, _converter(field.type)) for field in columns]

    def convert(row: int, record: JsonRecord) -> list[Any] | Reject:
        for name in texts:
            _judge(record, name)
        converted = _converted(record, fields)
        if converted is None:
            return Reject(row, row, record.reason, record.detail, raw_text(record.raw))
        return converted

    return TextReader(shard, columns, records_of(shard), convert)


def _judge(record: JsonRecord, text_column: str) -> None:
    """Set the reason of a record whose text cannot be scored, and remove its value."""
    text = None if record.value is None else record.value.get(text_column)
    if text is None:
        return
    if not isinstance(text, str):
        kind = {bool: "a boolean", int: "a number", float: "a number", list: "an array"}
        record.reason = "text_not_string"
        record.detail = f"{text_column!r} holds {kind.get(type(text), 'an object')}"
    elif encodable(text) != text:
        record.reason = "undecodable_text"
        record.detail = f"{text_column!r} holds half of a surrogate pair"
    if record.reason:
        record.value = None


def _converted(
    record: JsonRecord, fields: list[tuple[str, Callable[[Any], Any]]]
) -> list[Any] | None:
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
        return encodable(value)
    text = json.dumps(value, ensure_ascii=False)
    # JSON can escape a lone surrogate within a nested text.
    return text if encodable(text) == text else json.dumps(value)
