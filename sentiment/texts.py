"""The columns that hold the text of a row: one of several names, or several that are joined."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class TextColumns:
    """Where the text of a row is.

    Attributes:
        names: Columns. Of a file without a template, the first that it has is scored.
        template: Joins all of them, with each name in braces: `{title}. {body}`. None to take one.
    """

    names: tuple[str, ...] = ("text",)
    template: str | None = None

    def of(self, columns: Collection[str]) -> tuple[str, ...]:
        """Return those of a file that are scored; none if it has none of them.

        Args:
            columns: Names of all columns of the file.
        """
        found = tuple(name for name in self.names if name in columns)
        return found if self.template is not None else found[:1]

    def join(self, values: Mapping[str, str | None]) -> str | None:
        """Return the text of a row, made by the template.

        Args:
            values: The values of its columns; one that is null or missing leaves its place empty.

        Returns:
            None if all are null.
        """
        assert self.template is not None, "there is nothing to join"
        if all(values.get(name) is None for name in self.names):
            return None
        return "".join(
            (values.get(part) or "") if is_name else part
            for part, is_name in _parts(self.template, self.names)
        )

    def read(
        self, columns: Collection[str], values: Callable[[str], Iterable[Any]]
    ) -> list[str | None]:
        """Return the text of every row.

        Args:
            columns: Names of all columns.
            values: Returns the values of a column.

        Returns:
            Texts, as far as they are texts; nothing if there is no column of texts.
        """
        names = self.of(columns)
        if self.template is None:
            return list(values(names[0])) if names else []
        rows = zip(*(values(name) for name in names), strict=True)
        return [self.join(dict(zip(names, row, strict=True))) for row in rows]

    def told(self) -> str:
        """Return the names as `parse_names` parses them."""
        return ",".join(_quoted(name) for name in self.names)


TEXT: Final = TextColumns()


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in a list of columns: `title,body`.

    A name with a comma stands in double quotes.

    Raises:
        ValueError: A name is empty, there twice, or its quotes are not closed.
    """
    try:
        names = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ValueError("quotes around a name are not closed") from error
    if not names or not all(names):
        raise ValueError("a name is empty")
    if len(set(names)) < len(names):
        raise ValueError("a name is there twice")
    return tuple(names)


def joins(template: str | None, names: Collection[str]) -> bool:
    """Whether a template joins columns, and is not a prompt with `{text}` in it."""
    return any(field != "text" for field in fields_of(template, names))


def fields_of(template: str | None, names: Collection[str]) -> list[str]:
    """Return the columns that a template names in braces."""
    return [part for part, is_name in _parts(template or "", names) if is_name]


def _parts(template: str, names: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Yield what a template consists of, and whether it is the name of a column."""
    pattern = "|".join(re.escape(name) for name in names)
    for place, part in enumerate(re.split(rf"\{{({pattern})\}}", template)):
        yield part, place % 2 == 1


def _quoted(name: str) -> str:
    if not set(name) & set(',"') and name.strip() == name:
        return name
    return '"' + name.replace('"', '""') + '"'
