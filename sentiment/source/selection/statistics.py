"""Decides from the statistics of a group of rows whether a condition can hold in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sentiment.source.formats.binary_text import is_text
from sentiment.source.selection.compare import IncomparableError, Value, compare
from sentiment.source.selection.conditions import And, Column, Compare, Condition, IsNull, Not, Or


@dataclass(frozen=True)
class Statistics:
    """What is known of the values of a column in a group.

    Attributes:
        bounds: The least and the greatest value, or one below and one above them; as they are in
            the column. None if nobody knows.
        are_null: Whether all are null.
        have_nulls: Whether any is, or may be.
    """

    bounds: pa.Array | None
    are_null: bool = False
    have_nulls: bool = True


def never_holds(condition: Condition, statistics: Mapping[str, Statistics]) -> bool:
    """Whether a condition holds in no row of a group.

    Args:
        condition: The condition.
        statistics: Of the columns of which anything is known, by their names.

    Returns:
        False also where nothing can be said.
    """
    if isinstance(condition, And):
        return any(never_holds(part, statistics) for part in condition.parts)
    if isinstance(condition, Or):
        return all(never_holds(part, statistics) for part in condition.parts)
    if isinstance(condition, IsNull) and not condition.column.function:
        found = statistics.get(condition.column.name)
        return found is not None and not found.have_nulls
    if isinstance(condition, Not) and isinstance(condition.inner, IsNull):
        found = statistics.get(condition.inner.column.name)
        return found is not None and found.are_null
    if isinstance(condition, Compare) and not condition.column.function:
        found = statistics.get(condition.column.name)
        if found is not None and not isinstance(condition.other, Column):
            return _never_compares(found, condition.operation, condition.other)
    return False


def _never_compares(found: Statistics, operation: str, value: Value) -> bool:
    if found.are_null:
        return True
    if found.bounds is None or (is_text(found.bounds.type) and not isinstance(value, str)):
        return False  # numbers in texts are not in the order of the texts
    # Each names a bound that is compared, and the comparison without which there is no such row.
    needed = {
        "=": ((0, "<="), (1, ">=")),
        "<": ((0, "<"),),
        "<=": ((0, "<="),),
        ">": ((1, ">"),),
        ">=": ((1, ">="),),
    }
    try:
        return any(
            compare(found.bounds.slice(place, 1), test, value)[0].as_py() is False
            for place, test in needed.get(operation, ())
        )
    except IncomparableError:
        return False  # said when the columns are checked
