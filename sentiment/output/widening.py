"""Finds a type that holds the values of two types unchanged."""

from __future__ import annotations

import pyarrow as pa

from sentiment.source.formats.binary_text import is_text

_INTEGERS = (
    (pa.types.is_int8, 8, True),
    (pa.types.is_int16, 16, True),
    (pa.types.is_int32, 32, True),
    (pa.types.is_int64, 64, True),
    (pa.types.is_uint8, 8, False),
    (pa.types.is_uint16, 16, False),
    (pa.types.is_uint32, 32, False),
    (pa.types.is_uint64, 64, False),
)
_UNITS = ("s", "ms", "us", "ns")
_MAX_DIGITS = 76
_TEXT = pa.string()


def widened(one: pa.DataType, other: pa.DataType, *, has_wide: bool) -> pa.DataType:
    """Return a type that holds the values of both; text if there is no other.

    Args:
        one: A type.
        other: Another one.
        has_wide: Whether there are integers that a float of 64 bits cannot hold.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_dictionary(one) or pa.types.is_dictionary(other):
        plain = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in (one, other)]
        return widened(plain[0], plain[1], has_wide=has_wide)
    for attempt in (_numbers, _times, _bytes):
        found = attempt(one, other, has_wide)
        if found is not None:
            return found
    return _nested(one, other, has_wide) or _TEXT


def _bits(kind: pa.DataType) -> tuple[int, bool] | None:
    """Return the width of an integer type and whether it is signed; None of any other type."""
    return next(((bits, signed) for test, bits, signed in _INTEGERS if test(kind)), None)


def _numbers(one: pa.DataType, other: pa.DataType, has_wide: bool) -> pa.DataType | None:
    first, second = _bits(one), _bits(other)
    if first and second:
        return _integer(first, second)
    floats = [kind for kind in (one, other) if pa.types.is_floating(kind)]
    if len(floats) == 2:
        return max(floats, key=lambda kind: kind.bit_width)
    integer = first or second
    if floats and integer:
        if integer[0] == 64 and has_wide:
            return None
        small = integer[0] <= 16 and not pa.types.is_float16(floats[0])
        return floats[0] if small else pa.float64()
    if pa.types.is_decimal(one) or pa.types.is_decimal(other):
        return _decimal(one, other)
    return None


def _integer(first: tuple[int, bool], second: tuple[int, bool]) -> pa.DataType | None:
    (bits, signed), (more_bits, more_signed) = first, second
    if signed == more_signed:
        width = max(bits, more_bits)
        return getattr(pa, f"{'' if signed else 'u'}int{width}")()
    unsigned = bits if not signed else more_bits
    width = max(2 * unsigned, bits if signed else more_bits)
    return getattr(pa, f"int{width}")() if width <= 64 else None


def _decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    digits = []
    for kind in (one, other):
        if pa.types.is_decimal(kind):
            digits.append((kind.precision - kind.scale, kind.scale))
        elif _bits(kind) is not None:
            digits.append((20, 0))
        else:
            return None
    before, scale = max(whole for whole, _ in digits), max(part for _, part in digits)
    if before + scale > _MAX_DIGITS:
        return None
    make = pa.decimal128 if before + scale <= 38 else pa.decimal256
    return make(before + scale, scale)


def _times(one: pa.DataType, other: pa.DataType, _: bool) -> pa.DataType | None:
    dates = [kind for kind in (one, other) if pa.types.is_date(kind)]
    if len(dates) == 2:
        return pa.date32()
    stamps = [kind for kind in (one, other) if pa.types.is_timestamp(kind)]
    if dates and stamps:
        return stamps[0] if stamps[0].tz is None else None
    if len(stamps) == 2:
        if (stamps[0].tz is None) != (stamps[1].tz is None):
            return None
        zone = stamps[0].tz if stamps[0].tz == stamps[1].tz else "UTC"
        # Nanoseconds end in the year 2262, and 9999-12-31 is a common date.
        return pa.timestamp(_finer(stamps, most="us"), zone)
    if all(pa.types.is_time(kind) for kind in (one, other)):
        unit = _finer([one, other], most="ns")
        return pa.time64(unit) if unit in ("us", "ns") else pa.time32(unit)
    if all(pa.types.is_duration(kind) for kind in (one, other)):
        return pa.duration(_finer([one, other], most="us"))
    return None


def _finer(kinds: list[pa.DataType], most: str) -> str:
    finest = max(_UNITS.index(kind.unit) for kind in kinds)
    return _UNITS[min(finest, _UNITS.index(most))]


def _bytes(one: pa.DataType, other: pa.DataType, _: bool) -> pa.DataType | None:
    binary = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    if all(any(test(kind) for test in binary) for kind in (one, other)):
        return pa.binary()
    return _TEXT if is_text(one) and is_text(other) else None


def _nested(one: pa.DataType, other: pa.DataType, has_wide: bool) -> pa.DataType | None:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if all(any(test(kind) for test in lists) for kind in (one, other)):
        return pa.list_(widened(one.value_type, other.value_type, has_wide=has_wide))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        types = {one.field(at).name: one.field(at).type for at in range(one.num_fields)}
        for at in range(other.num_fields):
            inner = other.field(at)
            known = types.get(inner.name, inner.type)
            types[inner.name] = widened(known, inner.type, has_wide=has_wide)
        return pa.struct(list(types.items()))
    return None
