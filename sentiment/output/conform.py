"""Brings the rows of a unit into the columns of the output. No value is changed on the way.

A value that the type of the output cannot hold costs its row: it is rejected, and the reason names
the column.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiment.block import CARRIER_PREFIX, REASON, STAGE_WRITE, nulls, reject_rows
from sentiment.source.formats.binary_text import is_text, shown_texts


def conform_rows(rows: pa.Table, columns: pa.Schema | None) -> tuple[pa.Table, pa.Table]:
    """Bring the good rows of a unit into the columns of the output.

    Args:
        rows: All rows of a unit, with the read carriers.
        columns: Columns of the output; None to leave those of the unit.

    Returns:
        All rows; those with a value that does not fit are rejected. And the source columns of the
        good ones, as the output has them.
    """
    is_good = pc.is_null(rows.column(REASON))
    names = [name for name in rows.column_names if not name.startswith(CARRIER_PREFIX)]
    source = rows.filter(is_good).select(names)
    if columns is None:
        return rows, source
    source, misfits = conform(source, columns)
    if misfits:
        bad = np.array(sorted(misfits))
        details = [
            f"column {name!r} holds a value that is no {columns.field(name).type}, which it is in "
            "the output"
            for _, name in sorted(misfits.items())
        ]
        places = np.flatnonzero(is_good.to_numpy())[bad]
        rows = reject_rows(rows, places, STAGE_WRITE, ["malformed_record"] * len(bad), details)
        keep = np.ones(source.num_rows, bool)
        keep[bad] = False
        source = source.filter(pa.array(keep))
    return rows, source


def conform(rows: pa.Table, columns: pa.Schema) -> tuple[pa.Table, dict[int, str]]:
    """Return rows with the columns of the output.

    Args:
        rows: Source columns of good rows.
        columns: Columns of the output. Those that the rows have not are null.

    Returns:
        The columns in the order of the output; and of rows with a value that does not fit, by their
        place in the table, the name of the column. There the value is null.
    """
    misfits: dict[int, str] = {}
    arrays = []
    for one in columns:
        if one.name not in rows.column_names:
            arrays.append(nulls(rows.num_rows, one.type))
            continue
        values = rows.column(one.name)
        if values.type != one.type:
            values, places = _converted(values.combine_chunks(), one.type)
            misfits.update((place, one.name) for place in places if place not in misfits)
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=columns), misfits


def _converted(values: pa.Array, kind: pa.DataType) -> tuple[pa.Array, list[int]]:
    """Return values as another type, and the places of those that do not fit."""
    try:
        return _cast(values, kind), []
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        pass
    parts, places = [], []
    for place in range(len(values)):
        try:
            parts.append(_cast(values.slice(place, 1), kind))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            parts.append(nulls(1, kind))
            places.append(place)
    return pa.concat_arrays(parts), places


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return values as another type.

    Raises:
        pa.ArrowException: One does not fit.
        ValueError: One does not fit.
    """
    if pa.types.is_null(values.type):
        return nulls(len(values), kind)
    if pa.types.is_dictionary(values.type) and not pa.types.is_dictionary(kind):
        return _cast(values.dictionary_decode(), kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.array(_texts(values), kind)
    if is_text(values.type) and not is_text(kind):
        return _from_text(values.cast(pa.string()), kind)
    if pa.types.is_struct(kind) and pa.types.is_struct(values.type):
        return pa.array(values.to_pylist(), kind)
    return values.cast(kind)


def _texts(values: pa.Array) -> pa.Array | list[str | None]:
    """Return values as text, from which each can be told again."""
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values.cast(pa.string())
    if is_text(kind) or pa.types.is_fixed_size_binary(kind):
        return shown_texts(values)
    if pa.types.is_floating(kind):
        return [None if one is None else repr(one) for one in values.to_pylist()]
    if pa.types.is_nested(kind):
        return [
            None if one is None else json.dumps(one, ensure_ascii=False, default=str)
            for one in values.to_pylist()
        ]
    texts = values.cast(pa.string())
    if pc.any(pc.starts_with(texts, "<value out of range")).as_py():
        raise ValueError("a time has no text")
    return texts


def _from_text(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return texts as another type. Delimited text has no other null than the empty text."""
    values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    found = values.cast(kind)
    if pa.types.is_integer(kind) and not _same(found.cast(pa.string()), values):
        raise ValueError("digits would be lost")  # of `007`, for example
    return found


def _same(one: Any, other: Any) -> bool:
    return bool(one.fill_null("").equals(other.fill_null("")))
