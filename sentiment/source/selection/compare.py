"""Compares columns of any plain type with a value, exactly.

A value is what a person wrote in a condition. It is brought to the type of the column, and never
the other way round where digits could be lost. Text is compared with a number where the text is one
(delimited text has no other type); text that is none counts as null.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from math import floor
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sentiment.source.formats.binary_text import is_text

Value = str | bool | Decimal | date | datetime

OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_IN_ARROW: Final = {
    "=": pc.equal,
    "<>": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_EPOCH: Final = datetime(1970, 1, 1)
_UNITS_PER_SEC: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_SEC: Final = 24 * 60 * 60


class IncomparableError(TypeError):
    """A column has a type that cannot be compared with what stands beside it in a condition."""


def compare(values: pa.Array, operation: str, value: Value) -> pa.BooleanArray:
    """Compare every value of a column with one value.

    Args:
        values: N values of any type.
        operation: One of OPERATORS.
        value: What to compare them with.

    Returns:
        N booleans; null where a value is null, or is text that is no number or time.

    Raises:
        IncomparableError: No value of this type can be compared with it.
    """
    kind = values.type
    if pa.types.is_dictionary(kind):
        return compare(values.dictionary_decode(), operation, value)
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.bool_())
    if is_text(kind):
        if isinstance(value, str):
            return _as_texts(values, operation, value)
        return _one_by_one(values, operation, value, _READERS[type(value)])
    if pa.types.is_boolean(kind):
        wanted = _boolean(value) if isinstance(value, str) else value
        if isinstance(wanted, bool) and operation in ("=", "<>"):
            return _IN_ARROW[operation](values, wanted)
    elif pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_floating(kind):
        number = _number(value) if isinstance(value, str) else value
        if isinstance(number, Decimal):
            return _as_numbers(values, operation, number)
    elif pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        time = _time(value) if isinstance(value, str) else value
        if isinstance(time, date):
            return _as_times(values, operation, time)
    raise IncomparableError(f"{kind}, which cannot be compared by {operation} with {_shown(value)}")


def compare_columns(one: pa.Array, operation: str, other: pa.Array) -> pa.BooleanArray:
    """Compare the values of two columns, row by row.

    Raises:
        IncomparableError: They are of types that have no order among each other.
    """
    one, other = _decoded(one), _decoded(other)
    if pa.types.is_null(one.type) or pa.types.is_null(other.type):
        return pa.nulls(len(one), pa.bool_())
    if is_text(one.type) and is_text(other.type):
        return _IN_ARROW[operation](one.cast(pa.large_binary()), other.cast(pa.large_binary()))
    try:
        if is_text(one.type) or is_text(other.type):
            raise pa.ArrowInvalid("a text beside something else")
        return _IN_ARROW[operation](one, other)
    except (pa.ArrowException, NotImplementedError) as error:
        raise IncomparableError(
            f"{one.type}, which cannot be compared by {operation} with a column of {other.type}"
        ) from error


def _decoded(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _shown(value: Value) -> str:
    """Return what kind of value it is: the value itself may be text of a review."""
    kinds: dict[type, str] = {str: "this text", bool: "true or false", Decimal: "a number"}
    return kinds.get(type(value), "a time")


def _as_texts(values: pa.Array, operation: str, text: str) -> pa.BooleanArray:
    """Compare as bytes of UTF-8, whose order is that of the characters' numbers."""
    return _IN_ARROW[operation](
        values.cast(pa.large_binary()), pa.scalar(text.encode(), pa.large_binary())
    )


def _one_by_one(
    values: pa.Array, operation: str, value: Value, read: Callable[[str], Any]
) -> pa.BooleanArray:
    """Compare in Python; each distinct value once.

    Args:
        read: Returns a value that compares with `value`, or None.
    """
    encoded = values.dictionary_encode()
    answers: list[bool | None] = []
    for one in encoded.dictionary.to_pylist():
        text = one.decode("utf-8", "replace") if isinstance(one, bytes) else one
        found = None if text is None else read(text)
        answers.append(None if found is None else OPERATORS[operation](found, value))
    return pa.array(answers, pa.bool_()).take(encoded.indices)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _boolean(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.strip().lower())


def _time(text: str) -> date | datetime | None:
    """Return the day or the time that a text is; of another zone, in UTC and without a zone."""
    text = text.strip()
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError:
        return None


def in_utc(time: datetime) -> datetime:
    """Return a time without its zone, in UTC; one without a zone stays as it is."""
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def _datetime(text: str) -> datetime | None:
    time = _time(text)
    return None if time is None else _midnight(time)


def _midnight(time: date) -> datetime:
    return time if isinstance(time, datetime) else datetime(time.year, time.month, time.day)


def _day(text: str) -> date | None:
    """Return the day of a text that is one; a time of day is cut off."""
    time = _datetime(text)
    return None if time is None else time.date()


_READERS: Final[dict[type, Callable[[str], Any]]] = {
    Decimal: _number,
    bool: _boolean,
    date: _day,
    datetime: _datetime,
}


def _as_numbers(values: pa.Array, operation: str, number: Decimal) -> pa.BooleanArray:
    kind = values.type
    if pa.types.is_integer(kind):
        return _as_integers(values, operation, number)
    if pa.types.is_decimal(kind):
        return _one_by_one(values.cast(pa.string()), operation, number, _number)
    if pa.types.is_float16(kind):
        values, kind = values.cast(pa.float32()), pa.float32()
    # As the column has it: 0.1 of 32 bits is what someone who writes 0.1 means.
    return _IN_ARROW[operation](values, pa.scalar(float(number), pa.float64()).cast(kind))


def _as_integers(values: pa.Array, operation: str, number: Decimal) -> pa.BooleanArray:
    """Compare integers with any number, whatever its size; no integer becomes a float."""
    kind = values.type
    least, most = _range_of(kind)
    below = floor(number)
    if number == below and least <= below <= most:
        return _IN_ARROW[operation](values, pa.scalar(below, kind))
    if operation in ("=", "<>"):
        return _everywhere(values, operation == "<>")
    # Between two integers, `>` is `>` of the lower one, and `<` is `<=` of it.
    if below < least:
        return _everywhere(values, operation in (">", ">="))
    if below >= most:
        return _everywhere(values, operation in ("<", "<="))
    return _IN_ARROW[operation[0] + ("=" if operation[0] == "<" else "")](
        values, pa.scalar(below, kind)
    )


def _range_of(kind: pa.DataType) -> tuple[int, int]:
    bits = kind.bit_width
    if pa.types.is_unsigned_integer(kind):
        return 0, 2**bits - 1
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _everywhere(values: pa.Array, answer: bool) -> pa.BooleanArray:
    """Return one answer for every value that is not null."""
    return pc.if_else(pc.is_valid(values), answer, pa.scalar(None, pa.bool_()))


def _as_times(values: pa.Array, operation: str, time: date) -> pa.BooleanArray:
    """Compare as the integers that they are stored as: no year is out of range.

    A time without a zone counts as UTC where the column has a zone.
    """
    kind = values.type
    since = _midnight(time) - _EPOCH
    microseconds = (since.days * _DAY_SEC + since.seconds) * 10**6 + since.microseconds
    if pa.types.is_date32(kind):
        days = Decimal(microseconds) / (_DAY_SEC * 10**6)
        return _as_integers(values.cast(pa.int32()), operation, days)
    unit = "ms" if pa.types.is_date64(kind) else kind.unit
    units = Decimal(microseconds) * _UNITS_PER_SEC[unit] / 10**6
    return _as_integers(values.cast(pa.int64()), operation, units)
