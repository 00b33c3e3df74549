"""Conditions on rows, as `--where` says them: what they are, and where they hold.

As in SQL a condition is true, false or null, and a row is chosen where it is true. Conditions go to
the workers, which need no parser.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sentiment.source.formats.binary_text import is_text, shown_texts
from sentiment.source.selection.compare import (
    IncomparableError,
    Value,
    compare,
    compare_columns,
)

FUNCTIONS: Final[dict[str, Callable[[pa.Array], pa.Array]]] = {
    "lower": pc.utf8_lower,
    "upper": pc.utf8_upper,
    "length": pc.utf8_length,
}


class Condition(Protocol):
    """A condition. Its text parses to the same, and is one for all ways to write it.

    Settings are compared by it.
    """

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        """Return of N rows N booleans: whether it is true, false or null there.

        Args:
            rows: The rows, with the keys of their partition as columns (see `with_partition`).

        Raises:
            IncomparableError: A column has a type that cannot be compared so.
        """
        ...

    def columns(self) -> Iterator[str]:
        """Yield the names of its columns."""
        ...


@dataclass(frozen=True)
class Column:
    """The value of a column, or what a function makes of it; null where a file has none.

    Attributes:
        name: Name of the column or of the key of a partition.
        function: One of FUNCTIONS; "" for none.
    """

    name: str
    function: str = ""

    def __str__(self) -> str:
        quoted = '"' + self.name.replace('"', '""') + '"'
        return f"{self.function}({quoted})" if self.function else quoted

    def values(self, rows: pa.Table) -> pa.Array:
        """Return its values in N rows.

        Raises:
            IncomparableError: The function is one of text, and the column is none.
        """
        if self.name not in rows.column_names:
            return pa.nulls(rows.num_rows)
        column = rows.column(self.name)
        # `combine_chunks` returns a chunked array for some types.
        found = pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
        if not self.function or pa.types.is_null(found.type):
            return found
        return FUNCTIONS[self.function](self.texts(found, f"which {self.function} does not take"))

    def texts(self, values: pa.Array, problem: str) -> pa.Array:
        """Return values as text.

        Raises:
            IncomparableError: They are no text.
        """
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if not is_text(values.type):
            raise IncomparableError(f"column {self.name!r} is {values.type}, {problem}")
        return pa.array(shown_texts(values), pa.string())

    def compared(self, answer: Callable[[], pa.BooleanArray]) -> pa.BooleanArray:
        """Name the column in what is wrong with a comparison."""
        try:
            return answer()
        except IncomparableError as error:
            if str(error).startswith("column "):
                raise
            raise IncomparableError(f"column {self.name!r} is {error}") from error


@dataclass(frozen=True)
class Compare:
    """A column beside a value, or beside another column."""

    column: Column
    operation: str
    other: Value | Column

    def __str__(self) -> str:
        return f"{self.column} {self.operation} {_told(self.other)}"

    def columns(self) -> Iterator[str]:
        yield self.column.name
        if isinstance(self.other, Column):
            yield self.other.name

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        values, other = self.column.values(rows), self.other
        if isinstance(other, Column):
            others = other.values(rows)
            return self.column.compared(lambda: compare_columns(values, self.operation, others))
        return self.column.compared(lambda: compare(values, self.operation, other))


@dataclass(frozen=True)
class IsLike:
    """A text that has a form: `%` stands for any characters, `_` for one."""

    column: Column
    pattern: str
    ignores_case: bool = False

    def __str__(self) -> str:
        return f"{self.column} {'ILIKE' if self.ignores_case else 'LIKE'} {_told(self.pattern)}"

    def columns(self) -> Iterator[str]:
        yield self.column.name

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        values = self.column.values(rows)
        if pa.types.is_null(values.type):
            return pa.nulls(rows.num_rows, pa.bool_())
        texts = self.column.texts(values, "and LIKE takes text only")
        return pc.match_like(texts, self.pattern, ignore_case=self.ignores_case)


@dataclass(frozen=True)
class IsNull:
    """A column without a value, or a file without the column."""

    column: Column

    def __str__(self) -> str:
        return f"{self.column} IS NULL"

    def columns(self) -> Iterator[str]:
        yield self.column.name

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        return pc.is_null(self.column.values(rows))


@dataclass(frozen=True)
class Not:
    """True where a condition is false."""

    inner: Condition

    def __str__(self) -> str:
        return f"NOT ({self.inner})"

    def columns(self) -> Iterator[str]:
        yield from self.inner.columns()

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        return pc.invert(self.inner.holds(rows))


@dataclass(frozen=True)
class _Several:
    parts: tuple[Condition, ...]

    def columns(self) -> Iterator[str]:
        for part in self.parts:
            yield from part.columns()

    def _flat(self) -> Iterator[Condition]:
        for part in self.parts:
            if isinstance(part, _Several) and type(part) is type(self):
                yield from part._flat()
            else:
                yield part

    def _told(self, word: str) -> str:
        """Return its text: the same whatever the order and the brackets of its parts."""
        return word.join(sorted({f"({part})" for part in self._flat()}))

    def _combined(
        self, rows: pa.Table, combine: Callable[[pa.Array, pa.Array], pa.Array]
    ) -> pa.BooleanArray:
        first, *others = self.parts
        found = first.holds(rows)
        for part in others:
            found = combine(found, part.holds(rows))
        return found


@dataclass(frozen=True)
class And(_Several):
    """True where all of its parts are."""

    def __str__(self) -> str:
        return self._told(" AND ")

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        return self._combined(rows, pc.and_kleene)


@dataclass(frozen=True)
class Or(_Several):
    """True where any of its parts is."""

    def __str__(self) -> str:
        return self._told(" OR ")

    def holds(self, rows: pa.Table) -> pa.BooleanArray:
        return self._combined(rows, pc.or_kleene)


def conjuncts(condition: Condition | None) -> Sequence[Condition]:
    """Return the conditions that must all hold for a condition to hold."""
    if condition is None:
        return ()
    if isinstance(condition, And):
        return [one for part in condition.parts for one in conjuncts(part)]
    return (condition,)


def split(
    condition: Condition | None, partition_keys: Collection[str]
) -> tuple[list[str], list[str]]:
    """Split what must hold for a condition to hold.

    Args:
        condition: The condition.
        partition_keys: Keys of partitions.

    Returns:
        The texts of what is on these keys alone, which chooses files, and of all else, which
        chooses rows.
    """
    of_files, of_rows = list[str](), list[str]()
    for one in conjuncts(condition):
        (of_files if set(one.columns()) <= set(partition_keys) else of_rows).append(str(one))
    return of_files, of_rows


def _told(value: Value | Column) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")  # 6.0 is 6
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value}'"
    return f"DATE '{value}'" if isinstance(value, date) else str(value)
