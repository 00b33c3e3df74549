"""What a user says of the sources, beside where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sentiment.source.layout import ShardFormat
from sentiment.source.selection.selection import EVERY_ROW, Selection
from sentiment.texts import TEXT, TextColumns


@dataclass(frozen=True)
class ReadOptions:
    """How sources are listed and read. What is None is found out file by file.

    Attributes:
        texts: The columns that are scored.
        format: Format of every file, whatever its name and content say.
        delimiter: Between fields of delimited text.
        quote: Around fields of delimited text; "" for none.
        escape: Before quotes within quotes; "" for none.
        has_header: Whether delimited text begins with the names of its columns.
        encoding: Of text, as Python names it.
        null_values: Values of delimited text that stand for nothing.
        ignore: Globs of files that are no data. One without `/` is compared with the name of a
            file, any other with the end of its path.
        selection: Which rows are wanted.
    """

    texts: TextColumns = TEXT
    format: ShardFormat | None = None
    ignore: tuple[str, ...] = ()
    delimiter: str | None = None
    quote: str | None = None
    escape: str | None = None
    has_header: bool | None = None
    encoding: str | None = None
    null_values: tuple[str, ...] = ()
    selection: Selection = EVERY_ROW


BY_DEFAULT: Final = ReadOptions()
